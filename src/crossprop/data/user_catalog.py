"""The user's catalogue: entries are written and removed here, and read with all the others."""

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
_RESERVED: Final = ("sources", "stages", "all_sources")  # experiments of a study, and its joint network


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
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", key) or not reads_as_text(key):
        raise UserFileError(
            f"{key!r} is no key, or a number, a truth value or nothing to the files that name it. Use small letters, "
            f"digits and underscores, e.g. 'set_{key_of(key)}'."
        )
    if key in _RESERVED:
        raise UserFileError(f"{key!r} has a meaning of its own in studies. Choose another name with --name.")
    names = {name.lower() for e in builtin_catalog().properties.values() for name in (e.key, e.label)}
    if key in names or key in builtin_catalog().packages:
        raise UserFileError(f"crossprop has a property {key!r} of its own. Choose another name with --name.")
    if key in own_entries(catalog) and not replace:
        there = f"{key!r} is in {catalog} already"
        raise UserFileError(f"{there}. Replace it with --replace, or choose another --name.")


def own_entries(catalog: Path = OWN_CATALOG) -> dict[str, Any]:
    """Entries of the user's catalogue as they are written, by key."""
    return _values(catalog)["properties"]


def former_texts(key: str, catalog: Path = OWN_CATALOG) -> dict[str, str]:
    """Unit, description, citation and licence of an entry that is to be replaced; empty where there is none."""
    values = _values(catalog)
    texts = values["origins"].get(key, {}) | values["properties"].get(key, {})
    return {n: str(texts[n]) for n in ("unit", "description", "citation", "licence") if texts.get(n)}


def write_entry(key: str, origin: dict[str, Any], entry: dict[str, Any], catalog: Path = OWN_CATALOG) -> None:
    """Add or replace an entry and its origin."""
    values = _values(catalog)
    values["origins"][key] = origin
    values["properties"][key] = entry
    _write(values, catalog)


def remove_entry(key: str, catalog: Path = OWN_CATALOG) -> None:
    """Remove an entry and its origin."""
    values = _values(catalog)
    if values["properties"].pop(key, None) is None:
        known = ", ".join(values["properties"]) or "none"
        raise DataError(f"{key!r} is no property of your own; yours are: {known}.")
    values["origins"].pop(key, None)
    _write(values, catalog)


def _values(catalog: Path) -> dict[str, dict[str, Any]]:
    return read_catalog_values(catalog) if catalog.is_file() else {name: {} for name in _SECTIONS}


def _write(values: dict[str, dict[str, Any]], catalog: Path) -> None:
    ordered = {name: values[name] for name in sorted(values) if values[name] or name in _SECTIONS}
    text = HEADER + yaml.safe_dump(ordered, sort_keys=False, width=110, allow_unicode=True)
    with atomic_file(catalog) as draft:
        draft.write_text(text, encoding="utf-8")
