"""What Gupta et al. 2021 state beside their Tables 2 to 5: sources, counts and p-values."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from crossprop.reporting.study_info import PaperFigures, PaperTable

CITATION = "Gupta et al. 2021, doi:10.1038/s41467-021-26921-5"

STATED_WINS = {
    "the 38 targets that TL won in Table 3": {
        "fine-tuning, plain or modified": 8,
        "TL:ML(FeatExtr)": 3,
        "TL:DL(FeatExtr)": 27,
    },
    "the 27 that it won in Table 4": {"feature extraction": 21, "other methods": 6},
}
"""Counts of Supplementary Tables 8 and 10, as the text has them."""


@dataclass(frozen=True, kw_only=True)
class PaperSource:
    """A source property of the paper.

    Attributes:
        source: Its key in the catalogue.
        table_2: Whether Table 2 transfers from it.
        wins: On how many of the 27 targets that TL won in Table 4 its network was the one transferred.
        validation_mae: Validation MAE of its network, where the text has it.
    """

    source: str
    table_2: bool
    wins: int
    validation_mae: float | None


@dataclass(frozen=True, kw_only=True)
class StatedTest:
    """A sign test of the paper.

    Attributes:
        wins: Pairs in which the first is better; None where only the p-value is printed.
        n: All pairs.
        p_value: The one-tailed p-value that the paper prints, which is that of the normal approximation.
    """

    wins: int | None
    n: int
    p_value: float


STATED_MAE = StatedTest(wins=29, n=41, p_value=0.00397)
STATED_Q95 = StatedTest(wins=26, n=41, p_value=0.04291)
STATED_FINE_TUNING = StatedTest(wins=None, n=234, p_value=0.00104)


@cache
def paper_sources() -> tuple[PaperSource, ...]:
    """The paper's six sources, the most successful first."""
    text = files("crossprop.reporting").joinpath("paper_sources.csv").read_text(encoding="utf-8")
    return tuple(
        PaperSource(
            source=line["source"],
            table_2=line["table_2"] == "yes",
            wins=int(line["table_4_wins"]),
            validation_mae=float(line["validation_mae"]) if line["validation_mae"] else None,
        )
        for line in csv.DictReader(text.splitlines())
    )


def is_experimental(figures: PaperFigures) -> bool:
    """Whether a target stands in Table 5, not in Tables 2 to 4."""
    return figures.sc_ef_mae_table2 is None


def best_transfer(figures: PaperFigures) -> float | None:
    """The lower TL error of Tables 2 and 3, or that of Table 5."""
    known = [mae for mae in (figures.tl_mae_table2, figures.tl_mae_table3_or_5) if mae is not None]
    return min(known, default=None)


def published_wins(
    paper: PaperTable, scratch: str, transfer: str, keys: Sequence[str] = ()
) -> tuple[int, int]:
    """On how many targets the paper's TL has the lower error than its SC, and of how many.

    Args:
        paper: The paper's errors by target.
        scratch: Field of the SC column.
        transfer: Field of the TL column.
        keys: Targets to count; all if empty.
    """
    figures = [paper[key] for key in (keys or paper) if paper.get(key) is not None]
    pairs = [(getattr(f, scratch), getattr(f, transfer)) for f in figures]
    known = [(sc, tl) for sc, tl in pairs if sc is not None and tl is not None]
    return sum(tl < sc for sc, tl in known), len(known)
