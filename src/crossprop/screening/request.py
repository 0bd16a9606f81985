"""The request of a screening: validated and immutable."""

import difflib
import keyword
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from crossprop.config import explain
from crossprop.data.compositions import ELEMENTS, Amounts
from crossprop.errors import ScreeningError
from crossprop.io import file_digest

_3D, _4D, _5D = "Sc Ti V Cr Mn Fe Co Ni Cu Zn", "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd", "Hf Ta W Re Os Ir Pt Au Hg"
_LANTHANIDES = "La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu"
_SYMBOLS = {
    "all": " ".join(ELEMENTS),
    "metalloids": "B Si Ge As Sb Te",
    "nonmetals": "H C N O F P S Cl Se Br Kr I Xe",
    "alkali-metals": "Li Na K Rb Cs",
    "alkaline-earth-metals": "Be Mg Ca Sr Ba",
    "transition-metals": f"{_3D} {_4D} {_5D}",
    "3d-metals": _3D,
    "4d-metals": _4D,
    "5d-metals": _5D,
    "refractory-metals": "Ti V Cr Zr Nb Mo Hf Ta W Re",
    "platinum-group-metals": "Ru Rh Pd Os Ir Pt",
    "post-transition-metals": "Al Ga In Sn Tl Pb Bi",
    "rare-earths": f"Sc Y {_LANTHANIDES}",
    "lanthanides": _LANTHANIDES,
    "actinides": "Ac Th Pa U Np Pu",
    "pnictogens": "N P As Sb Bi",
    "chalcogens": "O S Se Te",
    "halogens": "F Cl Br I",
    "noble-gases": "Kr Xe",
    "radioactive": "Tc Pm Ac Th Pa U Np Pu",
}
GROUPS: Final = {name: tuple(symbols.split()) for name, symbols in _SYMBOLS.items()}
"""Groups of elements by name, without the elements that the networks do not know."""
GROUPS["metals"] = tuple(e for e in ELEMENTS if e not in GROUPS["metalloids"] + GROUPS["nonmetals"])


def resolve_elements(names: str | Iterable[str]) -> tuple[str, ...]:
    """The symbols in ``'Fe,Co,rare-earths'`` or a list of such texts, each once, by atomic number."""
    words = names.split(",") if isinstance(names, str) else [w for name in names for w in name.split(",")]
    found: set[str] = set()
    for word in filter(None, map(str.strip, words)):
        group = GROUPS.get(word.lower().replace("_", "-").replace(" ", "-"))
        if word in ELEMENTS:
            group = (word,)
        if group is None:
            same = [symbol for symbol in ELEMENTS if symbol.lower() == word.lower()]
            near = same or difflib.get_close_matches(word, (*GROUPS, *ELEMENTS), n=3, cutoff=0.5)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ScreeningError(
                f"{word!r} is neither one of the 86 elements that the networks know nor a group.{hint} "
                f"Groups: {', '.join(GROUPS)}."
            )
        found.update(group)
    return tuple(symbol for symbol in ELEMENTS if symbol in found)


_RESERVED = {"n_elements", "formula", "position", "rank", "note", *ELEMENTS}
_RESERVED |= {"expected_improvement", "log_expected_improvement"}
_DEFAULT_ATOMS = 10
_RANKING = {"maximize", "minimize", "rank", "best", "top", "per_system"}
_NOT_OF_IDENTITY = {*_RANKING, "out", "executor", "workers", "memory", "batch", "models", "alias"}
_LIMITS = {"min_elements", "max_elements", "max_atoms", "max_amount", "fractions"}
_OF_ELEMENTS = {*_LIMITS, "must_contain", "exclude"}  # fields that do not apply to a file


def _usable_names(given: tuple[str, ...]) -> tuple[str, ...]:
    """Names of properties, checked; a text may hold several, by commas."""
    names = tuple(word.strip() for text in given for word in text.split(",") if word.strip())
    if not names:
        raise ScreeningError("no property is named; give one with --property")
    for name in names:
        advice = f"Call the property something else with --model NAME={name}."
        readable = unicodedata.normalize("NFKC", name) == name  # as Python's parser reads a condition: µ as μ
        if not readable or not all(w.isidentifier() and not keyword.iskeyword(w) for w in name.split(".")):
            raise ScreeningError(f"{name!r} cannot stand in a condition. {advice}")
        if name in _RESERVED:
            raise ScreeningError(f"{name!r} means something else already. {advice}")
    ends = ("", "_lower", "_upper", "_in_domain")
    columns = [f"{name.replace('.', '_')}{end}" for name in names for end in ends]
    if len(set(columns)) < len(columns):
        raise ScreeningError(
            f"a property is named twice in {', '.join(names)}, or as a column of another. Rename one with --model."
        )
    return names


Elements = Annotated[tuple[str, ...], AfterValidator(resolve_elements)]
Ranking = Literal["value", "ei", "pareto"]


class ScreenRequest(BaseModel):
    """A screening: which compositions, which properties, what to keep, how to rank it.

    Raises:
        ScreeningError: A value is of the wrong kind, or two contradict each other; the first fault is named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Names of properties, as conditions use them; registered names or targets unless ``models`` says otherwise:
    properties: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_usable_names)]
    out: Path  # folder of the results
    models: dict[str, str] = Field(default_factory=dict)  # saved folder or registered name, by property
    alias: str = "champion"  # of the registered versions
    elements: Elements = ()  # symbols and groups; empty if ``input`` is given
    input: Path | None = None  # file with formulas: a list, or a table that has a column of them
    formula_column: str | None = None  # of ``input``; guessed if not given
    sheet: str | None = None  # of ``input``, a workbook
    amounts: Amounts = Amounts.ATOMIC  # what those in the formulas of ``input`` count
    must_contain: Elements = ()
    exclude: Elements = ()
    min_elements: int = Field(default=2, ge=1)
    max_elements: int = Field(default=3, ge=1)
    # Largest sum of amounts in the reduced formula, and largest amount of one element; 10 atoms if neither is given:
    max_atoms: int | None = Field(default=None, ge=1, le=1000)
    max_amount: int | None = Field(default=None, ge=1, le=1000)
    fractions: float | None = Field(default=None, gt=0, le=0.5)  # step of an alloy grid, instead
    charge_balanced: bool = False  # keep only what smact finds neutral, by the four options that follow
    oxidation_states: Literal["icsd24", "icsd16", "smact14", "pymatgen_sp", "wiki"] = "icsd24"
    pauling: bool = True  # cations must be less electronegative than anions
    alloys: bool = False  # keep compositions of metals only, too
    mixed_valence: bool = False  # let an element have several states at once
    novel: bool = False  # leave out compositions in the models' data
    where: str | None = None  # condition that a composition must meet
    in_domain: bool = False  # keep only what is in the training domain of every property
    # Quantities of which more or less is better; else the first property that ``where`` bounds, or the first one:
    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    rank: Ranking | None = None  # value for one quantity, pareto for several
    best: float | None = Field(default=None, allow_inf_nan=False)  # to beat; the best in the model's data
    top: int = Field(default=100, ge=1, le=1_000_000)  # rows of the ranked table
    per_system: int | None = Field(default=None, ge=1)  # most rows of one chemical system in it
    executor: Literal["local", "ray"] = "local"  # threads of this process, or workers of a Ray cluster
    workers: int = Field(default=0, ge=0, le=1024)  # 0 takes one for every core, of the cluster too
    memory: float | None = Field(default=None, gt=0)  # GiB, also of each worker; half of what is free here
    batch: int = Field(default=2048, ge=1, le=1_000_000)  # compositions predicted at a time by a worker

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ScreeningError(explain(error.errors()[0])) from None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        fields = type(self).model_fields
        changed = [n for n in fields if n in _OF_ELEMENTS and getattr(self, n) != fields[n].default]
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in changed)
        both = ", ".join(symbol for symbol in self.must_contain if symbol in self.exclude)
        strange = ", ".join(name for name in self.models if name not in self.properties)
        several, step = len(self.objectives) > 1, self.fractions
        atoms, amount = self.max_atoms, self.max_amount
        balance = self.alloys or self.mixed_valence or not self.pauling or self.oxidation_states != "icsd24"
        both_or_none = bool(self.elements) == (self.input is not None)
        uneven = step and abs(round(1 / step) * step - 1) > 1e-6
        problems = {
            "give either elements (--elements) or a file with formulas (--input)": both_or_none,
            f"{flags}: for --elements only; for a file write a condition, such as "
            "--where 'Fe > 0 and n_elements <= 4'": self.input is not None and changed,
            "--formula-column, --sheet and --amounts are for a file: give it with --input": self.input is None
            and (self.formula_column or self.sheet or self.amounts is not Amounts.ATOMIC),
            f"{both} cannot be in --must-contain and in --exclude; drop one of them": both,
            f"--model names {strange}, which is none of the properties": strange,
            f"the step {step} does not divide 1; take one such as 0.05, 0.1 or 0.25": uneven,
            "an alloy grid (--fractions) has no --max-atoms and no --max-amount": step and (atoms or amount),
            "expected improvement ranks by one property": several and self.rank == "ei",
            "several quantities cannot be ranked by value; take --rank pareto": several and self.rank == "value",
            "a Pareto front is whole: leave out --per-system": self.per_system and self.ranking == "pareto",
            "--best, the value to beat, needs --rank ei": self.best is not None and self.ranking != "ei",
            "--alloys, --mixed-valence, --no-pauling and --oxidation-states need --charge-balanced": (
                balance and not self.charge_balanced
            ),
        }
        for problem, found in problems.items():
            if found:
                raise ScreeningError(problem)
        return self

    @property
    def objectives(self) -> tuple[tuple[str, bool], ...]:
        """Quantities that ``maximize`` and ``minimize`` name, and whether more is better."""
        return tuple((t, True) for t in self.maximize) + tuple((t, False) for t in self.minimize)

    @property
    def ranking(self) -> Ranking:
        """How the kept compositions are ranked."""
        return self.rank or ("pareto" if len(self.objectives) > 1 else "value")

    @property
    def atoms(self) -> int:
        """Largest sum of amounts in the reduced formula."""
        if self.max_atoms is not None:
            return self.max_atoms
        return _DEFAULT_ATOMS if self.max_amount is None else self.max_amount * self.max_elements

    def identity(self) -> dict[str, Any]:
        """The values that decide which compositions are kept: a folder is continued only where they are the same."""
        values = self.model_dump(mode="json", exclude=_NOT_OF_IDENTITY)
        if self.input is not None:
            values["input"] = file_digest(self.input)
        return values
