"""The catalogue: every property by key or label, from ``catalog.yaml`` and from the user's catalogue."""

import difflib
import os
from collections.abc import Iterable
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from crossprop.config import Name, Section, UniqueKeys, explain
from crossprop.errors import DataError, UnknownPropertyError
from crossprop.paths import OWN_CATALOG

Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]


class Role(StrEnum):
    """What a property can be used for."""

    TARGET = "target"
    SOURCE = "source"


class PinnedFile(Section):
    """One public file by its content (``blob`` as git computes it); a user's file has a ``folder``."""

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|files)$")]
    path: Text
    blob: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    size: Positive | None = None
    split: Literal["train", "test", "all"] = "all"  # "all" where the file's rows are not split
    folder: str | None = None

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path:
            raise ValueError("must be relative, with '/' and without '..'")
        return path

    @property
    def relative_path(self) -> PurePosixPath:
        """Where the file lies under the folder of raw data, or under a mirror."""
        return PurePosixPath(self.repository, self.commit, self.path)


class Supplement(Section):
    """Further rows of a source property that another series gives.

    ``elemental_references`` differ from the property by a linear function of the composition; ``corrected_elements``
    have a second reference in compounds that hold ``corrected_with``. Shared rows conflict beyond the ``tolerance``.
    """

    relation: Literal["same_property", "elemental_references"]
    description: Text
    corrected_elements: tuple[str, ...] = ()
    corrected_with: str | None = None
    tolerance: Annotated[float, Field(gt=0)]
    files: Annotated[tuple[PinnedFile, ...], Field(min_length=1)]


class Edition(Section):
    """One way to fill a property: the files and supplements beyond those that all editions share."""

    files: tuple[PinnedFile, ...] = ()
    supplements: tuple[Supplement, ...] = ()


class Limits(Section):
    """Values of a source outside of which a calculation has failed; rows beyond are dropped and reported."""

    low: float
    high: float


class Columns(Section):
    """Names of the columns in a property's files; rows of one ``group``, such as a paper, are never split apart."""

    formula: Text = "formula"
    value: Text
    group: Text | None = None


class EmbeddedPackage(Section):
    """A table (``member``, CSV) in an archive (``path``) of an installed Python package."""

    package: Text
    path: Text
    member: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Positive
    formula_column: Text
    n_train: Positive  # compositions that its targets learn from
    n_test: Positive  # others that they are measured on
    licence: Text


class EmbeddedColumn(Section):
    """A column of an embedded data set: its package's key, name, and ``log10`` where that is taken."""

    package: Name
    column: Text
    transform: Literal["none", "log10"] = "none"


class PaperFigures(Section):
    """Gupta et al. 2021, Tables 2 to 5: test MAE in the property's unit; ``None`` where there is none."""

    data_size: Positive | None = None
    base_mae: float | None = None
    sc_ef_mae_table2: float | None = None
    tl_mae_table2: float | None = None
    tl_mae_table3_or_5: float | None = None
    sc_mae_table4_or_5: float | None = None
    lowest_mae: float | None = None


class PropertyEntry(Section):
    """One property of the catalogue, by its ``key`` in commands and folders; ``label`` is its short name in tables.

    The unit is ``1`` for a pure number, ``dex`` for a decadic logarithm. Every edition reads ``files`` and its own
    ones, ``rows`` rows; ``merge`` says how a source's rows of one composition become one.
    """

    key: Name
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]
    unit: Text
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    description: Text
    citation: Text
    licence: Text
    columns: Columns | None = None
    files: tuple[PinnedFile, ...] = ()
    editions: dict[Name, Edition] = Field(default_factory=dict)
    embedded: EmbeddedColumn | None = None
    merge: Literal["lowest", "median"] = "median"
    limits: Limits | None = None
    paper: PaperFigures = PaperFigures()
    rows: Positive | None = None
    notes: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.embedded is None) == (self.columns is None):
            raise ValueError("give either 'columns' with 'files', or 'embedded'")
        if self.columns is not None and not self.files and not self.editions:
            raise ValueError("names no files")
        if Role.TARGET in self.roles and self.editions:
            raise ValueError("a target has no editions: name its files")
        splits = {file.split for file in self.files}
        if Role.TARGET in self.roles and self.files and splits not in ({"train", "test"}, {"all"}):
            raise ValueError("a target needs files of split 'train' and 'test', or of split 'all' only")
        return self

    def edition(self, name: str | None = None) -> Edition:
        """All files and supplements of one edition; a property without editions is the same in every one."""
        if not self.editions:
            return Edition(files=self.files)
        if name not in self.editions:
            raise DataError(f"{self.key!r} has no edition {name!r}. Choose one of: {', '.join(sorted(self.editions))}.")
        chosen = self.editions[name]
        return Edition(files=(*self.files, *chosen.files), supplements=chosen.supplements)

    @property
    def is_own(self) -> bool:
        """Whether it is read from the user's files."""
        return any(file.folder is not None for file in self.files)

    def pinned_files(self, edition: str | None = None) -> tuple[PinnedFile, ...]:
        """Every file that one edition reads (all editions if ``None``), supplements included, each once."""
        chosen = [self.edition(name) for name in ([edition] if edition else self.editions or [None])]
        return tuple(dict.fromkeys(f for e in chosen for f in (*e.files, *(g for s in e.supplements for g in s.files))))


CATALOG_VARIABLE = "CROSSPROP_CATALOG"  # names the user's catalogue; an empty one stands for none
_SECTIONS = {"citations", "origins", "packages", "properties"}
_ORIGIN_KEYS = {"repository", "commit", "licence", "folder"}


class Catalog(Section):
    """All properties, and the packages that embedded ones are read from."""

    properties: dict[str, PropertyEntry]
    packages: dict[str, EmbeddedPackage]

    def property(self, key_or_label: str) -> PropertyEntry:
        """A property by its key or the paper's label, in any case; UnknownPropertyError names similar ones."""
        if key_or_label in self.properties:
            return self.properties[key_or_label]
        wanted = str(key_or_label).lower()
        names = {name.lower(): e for e in self.properties.values() for name in (e.label, e.key)}
        if wanted in names:
            return names[wanted]
        near = dict.fromkeys(names[n].key for n in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5))
        hint = f"Did you mean {' or '.join(near)}?" if near else "`crossprop data list` shows all."
        raise UnknownPropertyError(f"{key_or_label!r} is no property of the catalogue. {hint}")

    def keys(self, names: Iterable[str]) -> list[str]:
        """Names as the keys that a study needs: a label is a DataError, an unknown one an UnknownPropertyError."""
        for name in (names := list(names)):
            if (key := self.property(name).key) != name:
                raise DataError(f"{name!r} stands for the property {key!r}: name {key!r} in the study.")
        return names

    def entries(self, role: Role | str | None = None) -> list[PropertyEntry]:
        """Properties in the catalogue's order; only those of one role if given."""
        return [e for e in self.properties.values() if role is None or Role(role) in e.roles]

    def pinned_files(self, keys: Iterable[str] | None = None, edition: str | None = None) -> list[PinnedFile]:
        """Every file that these properties (keys or labels; all if ``None``) read, each once."""
        chosen = self.entries() if keys is None else [self.property(key) for key in keys]
        return list(dict.fromkeys(file for entry in chosen for file in entry.pinned_files(edition)))


def load_catalog(extra: Path | None = None) -> Catalog:
    """The built-in catalogue with the user's (``extra``, else what :func:`own_catalog` finds); DataError if wrong."""
    return _load(own_catalog() if extra is None else Path(extra))


def builtin_catalog() -> Catalog:
    """The catalogue that crossprop brings along, without the user's."""
    return _load(None)


def own_catalog() -> Path | None:
    """The user's catalogue: what ``CROSSPROP_CATALOG`` names, else ``own/catalog.yaml`` where that exists."""
    named = os.environ.get(CATALOG_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return OWN_CATALOG if OWN_CATALOG.is_file() else None


def _load(extra: Path | None) -> Catalog:
    where = "catalog.yaml"
    with as_file(files("crossprop.data").joinpath(where)) as builtin:
        values = read_catalog_values(builtin)
    if extra is not None:
        where = f"catalog.yaml with {extra}"
        added = read_catalog_values(extra)
        for section, entries in added.items():
            if taken := sorted(set(entries) & set(values[section])):
                raise DataError(
                    f"{extra} redefines {section} {taken} of the built-in catalogue. Give them other names."
                )
            values[section] |= entries
        for name, origin in added["origins"].items():
            if isinstance(origin, dict) and "folder" in origin:
                folder = str((extra.parent / str(origin["folder"])).resolve())
                local = {"repository": f"local/{name}", "commit": "files"}
                values["origins"][name] = {**local, **origin, "folder": folder}
    resolved = {
        "packages": values["packages"],
        "properties": {key: _resolved(key, entry, values) for key, entry in values["properties"].items()},
    }
    try:
        catalog = Catalog.model_validate(resolved)
    except ValidationError as error:
        problems = "; ".join(map(explain, error.errors()[:5]))
        raise DataError(f"The catalogue ({where}) is refused: {problems}. Correct the entry.") from None
    seen: dict[str, str] = {}
    for entry in catalog.properties.values():
        for name in {entry.key.lower(), entry.label.lower()}:
            if seen.setdefault(name, entry.key) != entry.key:
                raise DataError(f"{where}: the name {name!r} belongs to {seen[name]!r} and to {entry.key!r}.")
        if entry.embedded is not None and extra is not None and entry.key in added["properties"]:
            raise DataError(f"{extra}: {entry.key!r} is embedded; properties of your own are read from files.")
        if entry.embedded is not None and entry.embedded.package not in catalog.packages:
            raise DataError(f"{where}: {entry.key!r} reads the unknown package {entry.embedded.package!r}.")
    return catalog


def read_catalog_values(path: Path) -> dict[str, dict[str, Any]]:
    """Plain values of a catalogue file, by section; nothing is resolved or merged."""
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, Loader=UniqueKeys)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"The catalogue {path} cannot be read: {error}. Correct the file.") from None
    sections = values.values() if isinstance(values, dict) and set(values) <= _SECTIONS else [None]
    if not all(isinstance(entries, dict) for entries in sections):
        known = ", ".join(sorted(_SECTIONS))
        raise DataError(f"The catalogue {path} must map sections to entries; sections are {known}.")
    return {section: dict(values.get(section, {})) for section in _SECTIONS}


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
    if "blob" not in node or "path" not in node:
        return {part: _with_pins(item, origin, values, key) for part, item in node.items()}
    name = node.get("origin", origin)
    place = {} if name is None else _origin(name, values, key)
    own = {part: value for part, value in node.items() if part != "origin"}
    return own | {part: place[part] for part in ("repository", "commit", "folder") if part in place}


def _origin(name: Any, values: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    place = values["origins"].get(name)
    if not isinstance(place, dict) or not set(place) <= _ORIGIN_KEYS:
        raise DataError(
            f"{key!r} names the origin {name!r}, which is missing or holds other keys than {sorted(_ORIGIN_KEYS)}."
        )
    return place
