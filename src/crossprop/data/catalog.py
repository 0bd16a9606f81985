"""The catalogue: every property by key or label, from ``catalog.yaml`` and from the catalogue of one's own."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from crossprop.data.catalog_models import EmbeddedPackage, PinnedFile, PropertyEntry, Role
from crossprop.errors import DataError, UnknownPropertyError
from crossprop.paths import OWN_CATALOG

CATALOG_VARIABLE = "CROSSPROP_CATALOG"
"""Environment variable that names the catalogue of one's own; an empty one stands for none."""

_SECTIONS = {"citations", "origins", "packages", "properties"}
_ORIGIN_KEYS = {"repository", "commit", "licence", "folder"}


class Catalog(BaseModel):
    """All properties, and the packages that embedded ones are read from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    properties: dict[str, PropertyEntry]
    packages: dict[str, EmbeddedPackage]

    def property(self, key_or_label: str) -> PropertyEntry:
        """Find a property by its key (``piezo_max_dij``) or the paper's label (``PMDij``), whatever the case.

        Raises:
            UnknownPropertyError: There is none; the message names similar ones.
        """
        if key_or_label in self.properties:
            return self.properties[key_or_label]
        wanted = str(key_or_label).lower()
        names = {name.lower(): e for e in self.properties.values() for name in (e.label, e.key)}
        if wanted in names:
            return names[wanted]
        near = dict.fromkeys(names[n].key for n in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5))
        hint = f"Did you mean {' or '.join(near)}?" if near else "`crossprop data list` shows all."
        raise UnknownPropertyError(f"{key_or_label!r} is no property of the catalogue. {hint}")

    def entries(self, role: Role | str | None = None) -> list[PropertyEntry]:
        """Properties in the catalogue's order; only those of one role if given."""
        return [e for e in self.properties.values() if role is None or Role(role) in e.roles]

    def embedded_targets(self, package: str) -> list[PropertyEntry]:
        """Targets that are read from one embedded package: they share one draw of compositions."""
        return [
            e for e in self.entries(Role.TARGET) if e.embedded is not None and e.embedded.package == package
        ]

    def pinned_files(self, keys: Iterable[str] | None = None, edition: str | None = None) -> list[PinnedFile]:
        """Every file that these properties read, each once; embedded properties read none.

        Args:
            keys: Keys or labels; all properties if ``None``.
            edition: Edition of those that have several.
        """
        chosen = self.entries() if keys is None else [self.property(key) for key in keys]
        return list(dict.fromkeys(file for entry in chosen for file in entry.pinned_files(edition)))


def load_catalog(extra: Path | None = None) -> Catalog:
    """Read the built-in catalogue, and merge the one of one's own into it.

    Args:
        extra: YAML file of the same form; what :func:`own_catalog` finds if ``None``. An origin may name a
            ``folder`` (relative to this file) in place of ``repository`` and ``commit``.

    Raises:
        DataError: A file is missing, no YAML, or holds something a catalogue may not; the message names the
            place.
    """
    return _load(own_catalog() if extra is None else Path(extra))


def builtin_catalog() -> Catalog:
    """The catalogue that crossprop brings along, without anything of one's own."""
    return _load(None)


def own_catalog() -> Path | None:
    """The catalogue of one's own: what ``CROSSPROP_CATALOG`` names, else ``own/catalog.yaml`` of the project.

    Returns:
        Its path, or ``None`` where the project has none.
    """
    named = os.environ.get(CATALOG_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return OWN_CATALOG if OWN_CATALOG.is_file() else None


def _load(extra: Path | None) -> Catalog:
    values = _read(
        files("crossprop.data").joinpath("catalog.yaml").read_text(encoding="utf-8"), "catalog.yaml"
    )
    if extra is not None:
        values = _merged(values, read_catalog_values(extra), extra)
    resolved = {
        "packages": values["packages"],
        "properties": {key: _resolved(key, entry, values) for key, entry in values["properties"].items()},
    }
    where = "catalog.yaml" if extra is None else f"catalog.yaml with {extra}"
    try:
        catalog = Catalog.model_validate(resolved)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:5])
        raise DataError(f"The catalogue ({where}) is refused: {problems}. Correct the entry.") from None
    _check_names(catalog, where)
    return catalog


def read_catalog_values(path: Path) -> dict[str, dict[str, Any]]:
    """Plain values of a catalogue file, by section; nothing is resolved or merged.

    Raises:
        DataError: It cannot be read or is no catalogue.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The catalogue {path} cannot be read: {error}. Check its path and encoding."
        ) from None
    return _read(text, str(path))


def _read(text: str, where: str) -> dict[str, dict[str, Any]]:
    try:
        values = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise DataError(f"The catalogue {where} is no YAML: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise DataError(
            f"The catalogue {where} must map section names to entries: {', '.join(sorted(_SECTIONS))}."
        )
    if unknown := set(values) - _SECTIONS:
        raise DataError(
            f"The catalogue {where} holds unknown section(s) {sorted(unknown)}; known: {sorted(_SECTIONS)}."
        )
    return {section: dict(values.get(section, {})) for section in _SECTIONS}


def _merged(
    base: dict[str, dict[str, Any]], added: dict[str, dict[str, Any]], path: Path
) -> dict[str, dict[str, Any]]:
    for name, origin in added["origins"].items():
        if isinstance(origin, dict) and "folder" in origin:
            folder = (path.parent / str(origin["folder"])).resolve()
            added["origins"][name] = {
                "repository": f"local/{name}",
                "commit": "files",
                **origin,
                "folder": str(folder),
            }
    for section, entries in added.items():
        if taken := sorted(set(entries) & set(base[section])):
            raise DataError(
                f"{path} redefines {section} {taken} of the built-in catalogue. Give them other names."
            )
    return {section: {**base[section], **added[section]} for section in _SECTIONS}


def _resolved(key: str, entry: Any, values: dict[str, dict[str, Any]]) -> Any:
    """The entry with its citation, its licence and its files' repositories spelt out."""
    if not isinstance(entry, dict):
        return entry
    entry = {"key": key, **entry}
    citation = entry.get("citation")
    if isinstance(citation, str):
        entry["citation"] = values["citations"].get(citation, citation)
    origin = entry.pop("origin", None)
    if origin is not None:
        entry.setdefault("licence", _origin(origin, values, key).get("licence", ""))
    elif isinstance(entry.get("embedded"), dict):
        package = values["packages"].get(entry["embedded"].get("package"), {})
        entry.setdefault("licence", package.get("licence", ""))
    return _with_pins(entry, origin, values, key)


def _with_pins(node: Any, origin: str | None, values: dict[str, dict[str, Any]], key: str) -> Any:
    """Copy of a nested entry in which every file carries repository, commit and folder of its origin."""
    if isinstance(node, list):
        return [_with_pins(item, origin, values, key) for item in node]
    if not isinstance(node, dict):
        return node
    if "blob" in node and "path" in node:
        node = dict(node)
        name = node.pop("origin", origin)
        if name is not None:
            place = _origin(name, values, key)
            node |= {part: place[part] for part in ("repository", "commit", "folder") if part in place}
        return node
    return {part: _with_pins(item, origin, values, key) for part, item in node.items()}


def _origin(name: Any, values: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    place = values["origins"].get(name)
    if not isinstance(place, dict):
        raise DataError(
            f"{key!r} names the origin {name!r}; the catalogue knows {sorted(values['origins'])}."
        )
    if unknown := set(place) - _ORIGIN_KEYS:
        raise DataError(
            f"The origin {name!r} holds unknown key(s) {sorted(unknown)}; known: {sorted(_ORIGIN_KEYS)}."
        )
    return place


def _check_names(catalog: Catalog, where: str) -> None:
    """Refuse a name that would find two properties, and an embedded column without its package."""
    seen: dict[str, str] = {}
    for entry in catalog.properties.values():
        for name in {entry.key.lower(), entry.label.lower()}:
            if seen.setdefault(name, entry.key) != entry.key:
                raise DataError(f"{where}: the name {name!r} belongs to {seen[name]!r} and to {entry.key!r}.")
        if entry.embedded is not None and entry.embedded.package not in catalog.packages:
            raise DataError(f"{where}: {entry.key!r} reads the unknown package {entry.embedded.package!r}.")
