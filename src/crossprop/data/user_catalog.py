"""The user's catalogue: entries are written and removed here, and read with all the others."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any, Final

import yaml

from crossprop.config import reads_as_text
from crossprop.data.catalog import builtin_catalog, read_catalog_values
from crossprop.errors import DataError, UserFileError
from crossprop.io import atomic_file
from crossprop.paths import OWN_CATALOG

HEADER: Final = (
    "# Data sets of your own. `crossprop data add` and `crossprop data remove` write this file; what an entry may\n"
    "# hold is what src/crossprop/data/catalog.yaml shows. Comments of yours are not kept.\n"
)
_SECTIONS: Final = ("origins", "properties")


def key_of(name: str) -> str:
    """A name as a key: small letters, digits and underscores; a unit in brackets at its end is left out."""
    bare = re.sub(r"\s*[(\[][^()\[\]]*[)\]]\s*$", "", name)
    letters = unicodedata.normalize("NFKD", bare.casefold()).encode("ascii", "ignore").decode()
    key = re.sub(r"[^a-z0-9]+", "_", letters).strip("_")
    if not key:
        raise UserFileError(f"{name!r} gives no key of small letters and digits. Choose one with --name.")
    return key


def check_new_key(key: str, catalog: Path = OWN_CATALOG, replace: bool = False) -> None:
    """Refuse a key that is no key, that the built-in catalogue has, or that is taken (unless it may be replaced)."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", key):
        raise UserFileError(
            f"{key!r} is no key: use small letters, digits and underscores, e.g. {key_of(key)!r}."
        )
    if not reads_as_text(key):
        raise UserFileError(
            f"{key!r} is a number, a truth value or nothing to the files that name it. Choose a longer name, "
            f"e.g. 'set_{key}'."
        )
    names = {name.lower() for e in builtin_catalog().properties.values() for name in (e.key, e.label)}
    if key in names or key in builtin_catalog().packages:
        raise UserFileError(
            f"crossprop has a property {key!r} of its own ('crossprop data show {key}'). "
            "Choose another name with --name."
        )
    if key in own_entries(catalog) and not replace:
        raise UserFileError(
            f"{key!r} is in {catalog} already. Replace it with --replace, or choose another name with --name."
        )


def check_own_key(key: str, catalog: Path = OWN_CATALOG) -> None:
    """Refuse a key that the user's catalogue does not have; the message names those that there are."""
    if key not in own_entries(catalog):
        known = ", ".join(own_entries(catalog)) or "none"
        raise DataError(f"{key!r} is no property of your own; yours are: {known}.")


def own_entries(catalog: Path = OWN_CATALOG) -> dict[str, Any]:
    """Entries of the user's catalogue as they are written, by key; none where there is no such catalogue."""
    return read_catalog_values(catalog)["properties"] if catalog.is_file() else {}


def former_texts(key: str, catalog: Path = OWN_CATALOG) -> dict[str, str]:
    """Unit, description, citation and licence of an entry that is to be replaced; empty where there is none."""
    entry = own_entries(catalog).get(key)
    if entry is None:
        return {}
    origin = _values(catalog)["origins"].get(key, {})
    texts = {name: entry.get(name) for name in ("unit", "description", "citation")}
    texts["licence"] = entry.get("licence") or origin.get("licence")
    return {name: str(text) for name, text in texts.items() if text}


def write_entry(key: str, origin: dict[str, Any], entry: dict[str, Any], catalog: Path = OWN_CATALOG) -> None:
    """Add or replace an entry and its origin, both under the same key; the file is written whole or not at all."""
    values = _values(catalog)
    values["origins"][key] = origin
    values["properties"][key] = entry
    _write(values, catalog)


def remove_entry(key: str, catalog: Path = OWN_CATALOG) -> None:
    """Remove an entry and its origin; the message of an unknown key names those that there are."""
    check_own_key(key, catalog)
    values = _values(catalog)
    del values["properties"][key]
    values["origins"].pop(key, None)
    _write(values, catalog)


def _values(catalog: Path) -> dict[str, dict[str, Any]]:
    return read_catalog_values(catalog) if catalog.is_file() else {name: {} for name in _SECTIONS}


def _write(values: dict[str, dict[str, Any]], catalog: Path) -> None:
    ordered = {name: values[name] for name in sorted(values) if values[name] or name in _SECTIONS}
    text = HEADER + yaml.safe_dump(ordered, sort_keys=False, width=110, allow_unicode=True)
    with atomic_file(catalog) as draft:
        draft.write_text(text, encoding="utf-8")
