"""Which method and which source won: Supplementary Tables 8 and 10, and how the sources rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from crossprop.experiments.results import CellResult
from crossprop.methods import Method, Side
from crossprop.report.paper import STATED_WINS, TABLES, PublishedTable, paper_sources
from crossprop.report.part import Part, Row, cell_name, markdown_table, number, words
from crossprop.report.statistics import geometric_mean
from crossprop.report.study import StudyInfo, TargetResults, best_validated


def lowest_transfer(table: PublishedTable, results: Sequence[TargetResults]) -> list[CellResult]:
    """The best TL cell of every target on which it has a lower hold-out MAE than the best SC, as the paper counts."""
    won = []
    for target in results:
        scratch = best_validated(cell for cell in target.cells if table.scratch(cell))
        transfer = best_validated(cell for cell in target.cells if table.transfer(cell))
        if scratch and transfer and (transfer.test_mae or 0.0) < (scratch.test_mae or 0.0):
            won.append(transfer)
    return won


def method_rows(results: Sequence[TargetResults]) -> list[Row]:
    """How often each method was chosen: as best SC or TL, as winner, and as the paper counts TL's wins."""
    chosen = _counts(c for t in results for c in (t.best_sc, t.best_tl) if c)
    winners = _counts(target.winner for target in results if target.winner)
    tables = [_counts(lowest_transfer(table, results)) for table in TABLES[1:3]]
    present = {cell.method for target in results for cell in target.cells}
    return [
        {
            "method": method.notation,
            "ours": method.extension,
            "best_of_its_side": chosen[method],
            "winner_of_all": winners[method],
            "lower_tl_on_fractions": tables[0][method],
            "lower_tl": tables[1][method],
        }
        for method in Method
        if method in present and method is not Method.BASE
    ]


def source_rows(study: StudyInfo, results: Sequence[TargetResults]) -> list[Row]:
    """How often each source's network gave the best TL, and how its screening errors rank among the sources."""
    best = Counter(t.best_tl.source for t in results if t.best_tl)
    lower = Counter(cell.source for cell in lowest_transfer(TABLES[2], results))
    ranks, ratios = _screening_ranks(study.elemnets, results)
    theirs = {source.source: source.wins for source in paper_sources()}
    return [
        {
            "source": source,
            "best_tl": best[source],
            "lower_tl": lower[source],
            "paper_wins": theirs.get(source),
            "mean_rank": float(np.mean(ranks[source])) if ranks[source] else None,
            "screening_ratio_to_best_source": geometric_mean(ratios[source]) if ratios[source] else None,
            "comparisons": len(ranks[source]),
        }
        for source in study.elemnets
    ]


def chosen_rows(results: Sequence[TargetResults]) -> list[Row]:
    """The chosen cells of every target with their runs."""
    return [
        {
            "target": target.info.key,
            "role": role,
            "cell": cell_name(cell),
            "method": cell.method.notation,
            "source": cell.source,
            "layer": cell.layer,
            "cv_mae_mean": cell.cv_mae_mean,
            "test_mae": cell.test_mae,
            "run_id": target.run_id(cell),
        }
        for target in results
        for role, cell in (
            ("best SC", target.best_sc),
            ("best TL", target.best_tl),
            ("winner", target.winner),
        )
        if cell is not None
    ]


def winning_part(study: StudyInfo, results: Sequence[TargetResults], *, of_paper: bool) -> Part:
    """The counts, beside the paper's where the study has its targets."""
    methods, sources = method_rows(results), source_rows(study, results)
    header = ["method", "best of its side", "winner of all", "TL lower, SC on EF", "TL lower, SC on EF or PA"]
    table = markdown_table(
        header,
        [
            [
                f"{row['method']}{' (ours)' if row['ours'] else ''}",
                *(
                    str(row[key])
                    for key in ("best_of_its_side", "winner_of_all", "lower_tl_on_fractions", "lower_tl")
                ),
            ]
            for row in methods
        ],
    )
    pieces = [
        "Targets by the method that cross-validation chose. “Best of its side” and the last two columns are of "
        "the paper's methods; the last two count, as the paper does, the best TL of the targets on which its "
        "hold-out MAE is below that of the best SC.",
        table,
    ]
    if of_paper:
        pieces.append(_stated())
    if sources:
        pieces.append(_source_text(sources, of_paper=of_paper))
    return Part(
        title="Which method and which source won (S8, S10)",
        text="\n\n".join(pieces),
        tables={
            "tables/chosen.csv": chosen_rows(results),
            "tables/methods_won.csv": methods,
            **({"tables/sources_won.csv": sources} if sources else {}),
        },
    )


def _counts(cells: Iterable[CellResult]) -> Counter[Method]:
    return Counter(cell.method for cell in cells)


def _screening_ranks(
    sources: Sequence[str], results: Sequence[TargetResults]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Ranks and ratios to the best source, over target × TL method with all sources screened.

    Equal errors share their mean rank.
    """
    ranks: dict[str, list[float]] = {source: [] for source in sources}
    ratios: dict[str, list[float]] = {source: [] for source in sources}
    methods = [m for m in Method if m.side is Side.TRANSFER and not m.extension]
    for target in results:
        for method in methods:
            known = {
                cell.source: cell.val_mae
                for cell in target.cells
                if cell.method is method and cell.val_mae and cell.source in sources
            }
            if len(known) < len(sources) or len(sources) < 2:
                continue
            errors = np.array([known[source] for source in sources])
            for source, error in zip(sources, errors, strict=True):
                ranks[source].append(float(np.sum(errors < error) + (np.sum(errors == error) + 1) / 2))
                ratios[source].append(float(error / errors.min()))
    return ranks, ratios


def _stated() -> str:
    told = "; ".join(
        f"of {what}, " + ", ".join(f"{name} on {count}" for name, count in counts.items())
        for what, counts in STATED_WINS.items()
    )
    return f"The paper's text has: {told}."


def _source_text(sources: Sequence[Row], *, of_paper: bool) -> str:
    header = ["source", "best TL", "TL lower than SC", "mean rank", "error over the best source's"]
    lines = []
    for row in sources:
        rank, ratio, theirs = row["mean_rank"], row["screening_ratio_to_best_source"], row["paper_wins"]
        paper = [str(theirs) if theirs is not None else "–"] if of_paper else []
        lines.append(
            [
                words(str(row["source"])),
                str(row["best_tl"]),
                str(row["lower_tl"]),
                *paper,
                number(rank if isinstance(rank, float) else None, 3),
                number(ratio if isinstance(ratio, float) else None, 4),
            ]
        )
    if of_paper:
        header.insert(3, "paper (of 27)")
    n = sources[0]["comparisons"]
    return (
        f"{markdown_table(header, lines)}\n\nRank and ratio: the screening MAE of the same TL method from each source, "
        f"over {n} pairs of target and method (1 = best source; geometric mean of the ratios)."
    )
