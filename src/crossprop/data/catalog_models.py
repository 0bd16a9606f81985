"""What a catalogue may say: pinned files, editions, embedded columns, the paper's figures, properties."""

from __future__ import annotations

from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from crossprop.errors import DataError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]


class _Entry(BaseModel):
    """Frozen, and closed: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Role(StrEnum):
    """What a property can be used for."""

    TARGET = "target"
    SOURCE = "source"


class PinnedFile(_Entry):
    """One public file, identified by its content.

    Attributes:
        repository: ``owner/name``; files of one's own have ``local/<origin>``.
        commit: Git commit of the repository (``files`` for files of one's own).
        path: Path within the repository, POSIX style.
        blob: Git blob id: sha1 of ``blob <size>``, a zero byte and the content.
        size: Bytes, where known.
        split: Rows to learn from, hold-out rows, or ``all`` where the file is not split.
        folder: Folder of one's own that holds the file; ``None`` for a public one.
    """

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|files)$")]
    path: Text
    blob: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    size: Positive | None = None
    split: Literal["train", "test", "all"] = "all"
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

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name


class Supplement(_Entry):
    """Further rows of a source property that another series gives.

    Attributes:
        relation: ``same_property``: the values are of this property already. ``elemental_references``: they
            differ from it by a linear function of the composition, which is fitted on shared compositions.
        description: What the series is.
        corrected_elements: Elements with a second reference in compounds that hold ``corrected_with``.
        corrected_with: The element beside which they have it.
        tolerance: Difference, in the property's unit, above which a shared row counts as conflicting.
        files: The series' files.
    """

    relation: Literal["same_property", "elemental_references"]
    description: Text
    corrected_elements: tuple[str, ...] = ()
    corrected_with: str | None = None
    tolerance: Annotated[float, Field(gt=0)]
    files: Annotated[tuple[PinnedFile, ...], Field(min_length=1)]


class Edition(_Entry):
    """One way to fill a property: the files and supplements beyond those that all editions share."""

    files: tuple[PinnedFile, ...] = ()
    supplements: tuple[Supplement, ...] = ()


class Limits(_Entry):
    """Values of a source outside of which a calculation has failed; rows beyond are dropped and reported."""

    low: float
    high: float


class Columns(_Entry):
    """Names of the columns in a property's files.

    Attributes:
        formula: Formulas.
        value: Values.
        group: What stays on one side of every split, such as a paper; only compositions do where there is none.
    """

    formula: Text = "formula"
    value: Text
    group: Text | None = None


class EmbeddedPackage(_Entry):
    """A data set that an installed Python package brings along.

    Attributes:
        package: Name of the importable package.
        path: Path of the archive within it.
        member: The table within the archive (CSV).
        sha256: Checksum of the archive.
        size: Bytes of the archive.
        formula_column: Column of the formulas.
        n_train: Compositions that the targets learn from.
        n_test: Compositions of their hold-out.
        licence: Terms of use.
    """

    package: Text
    path: Text
    member: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Positive
    formula_column: Text
    n_train: Positive
    n_test: Positive
    licence: Text


class EmbeddedColumn(_Entry):
    """A column of an embedded data set: its package's key, name, and ``log10`` where that is taken."""

    package: Name
    column: Text
    transform: Literal["none", "log10"] = "none"


class PaperFigures(_Entry):
    """Gupta et al. 2021, Tables 2 to 5: test MAE in the property's unit; ``None`` where there is none."""

    data_size: Positive | None = None
    base_mae: float | None = None
    sc_ef_mae_table2: float | None = None
    tl_mae_table2: float | None = None
    tl_mae_table3_or_5: float | None = None
    sc_mae_table4_or_5: float | None = None
    lowest_mae: float | None = None


class PropertyEntry(_Entry):
    """One property of the catalogue.

    Attributes:
        key: Name in commands, configurations and folders.
        label: Short name in tables (the paper's, where it has one).
        unit: Unit of the values; ``1`` for a pure number, ``dex`` for a decadic logarithm.
        roles: What it can be used for.
        description: What it is, in a sentence.
        citation: Whom to cite.
        licence: Terms of use of the files.
        columns: Columns of the files.
        files: Files that every edition reads.
        editions: Named ways to fill the property; empty where there is only one.
        embedded: Column of an installed package, instead of files.
        merge: How a source's several rows of one composition become one.
        limits: Values that a source's rows must lie between.
        paper: What the paper reached.
        rows: Rows of ``files``, for orientation (an edition may add more).
        notes: Traps and peculiarities.
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
    editions: dict[Name, Edition] = {}
    embedded: EmbeddedColumn | None = None
    merge: Literal["lowest", "median"] = "median"
    limits: Limits | None = None
    paper: PaperFigures = PaperFigures()
    rows: Positive | None = None
    notes: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> PropertyEntry:
        if (self.embedded is None) == (self.columns is None):
            raise ValueError("give either 'columns' with 'files', or 'embedded'")
        if self.columns is not None and not self.files and not self.editions:
            raise ValueError("names no files")
        splits = {file.split for file in self.files}
        if Role.TARGET in self.roles and self.files and splits not in ({"train", "test"}, {"all"}):
            raise ValueError("a target needs files of split 'train' and 'test', or of split 'all' only")
        return self

    def edition(self, name: str | None = None) -> Edition:
        """All files and supplements of one edition.

        A property without editions is the same in every one.

        Raises:
            DataError: The property has editions and ``name`` is none of them.
        """
        if not self.editions:
            return Edition(files=self.files)
        if name not in self.editions:
            raise DataError(
                f"{self.key!r} has no edition {name!r}. Choose one of: {', '.join(sorted(self.editions))}."
            )
        chosen = self.editions[name]
        return Edition(files=(*self.files, *chosen.files), supplements=chosen.supplements)

    @property
    def is_own(self) -> bool:
        """Whether it is read from files of one's own."""
        return any(file.folder is not None for file in self.files)

    def pinned_files(self, edition: str | None = None) -> tuple[PinnedFile, ...]:
        """Every file that one edition reads, supplements included, each once."""
        chosen = self.edition(edition)
        return tuple(dict.fromkeys([*chosen.files, *(f for s in chosen.supplements for f in s.files)]))
