"""The whole report of a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossprop.paths import StudyPaths
from crossprop.report.page import costs_page, findings, linked_page, study_page, targets_part
from crossprop.report.paper_page import (
    median_sentence,
    paper_findings,
    paper_introduction,
    paper_parts,
    paper_section,
)
from crossprop.report.paper_tests import sign_tests_part
from crossprop.report.part import FIGURES, TABLES, Drawing, Part, Row
from crossprop.report.statistics import Gain, own_gains, transfer_gains
from crossprop.report.study import PaperTable, StudyInfo, TargetResults, load_study_results
from crossprop.report.supplement.extensions import own_findings
from crossprop.report.supplement.intervals import TargetCoverage, coverage_sentence, target_coverages
from crossprop.report.supplement.networks import source_model_rows
from crossprop.report.supplement.page import supplement_parts
from crossprop.report.supplement.repeats import repeats, repeats_sentence
from crossprop.report.supplement.validation import cell_counts, failed_part
from crossprop.report.tables import (
    cell_rows,
    method_rows,
    parity_rows,
    run_rows,
    target_rows,
    write_metrics,
    write_rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS = 16
"""With more targets the panels of the winners go to the supplement."""

_SUPPLEMENT = (
    "What the paper shows in its supplement, of this study; numbers in brackets are those of the paper's "
    "supplementary tables and figures. Errors are in the targets' units."
)


def summarize(study: StudyInfo, paths: StudyPaths, out_dir: Path, paper: PaperTable) -> None:
    """Write tables, figures and pages of a study.

    Args:
        study: The study and the cells that its configuration enumerates.
        paths: Where results, source networks and prepared tables lie.
        out_dir: Folder of the report, made if it is not there.
        paper: The paper's errors by target key; targets that it does not have may be absent, None or empty.

    Raises:
        StoreError: Results are missing, damaged, or of other cells than the configuration enumerates.
        ModelFormatError: A source network has not been trained, or the evidence of a saved model is damaged.
    """
    results = load_study_results(study, paths)
    paper = {key: figures for key, figures in paper.items() if figures is not None and figures.lowest_mae}
    gains, own = transfer_gains(results), own_gains(results)
    parity = Part(title="Predictions of the winners", drawings={"winner_parity.png": _parity(results)})
    many = len(results) > _MOST_PANELS
    main = [
        paper_section(results, paper),
        Part(title="Scratch against transfer", drawings={"scratch_against_transfer.png": _sides(results)}),
        Part(title="Every method", drawings={"method_heatmap.png": _methods(results)}),
        targets_part(results, gains),
        *([] if many else [parity]),
        failed_part(results),
    ]
    of_paper = paper_parts(results, paper)
    tests = [] if of_paper else [sign_tests_part(results, paper)]
    covered = target_coverages(results, paths)
    supplement = [
        *tests,
        *supplement_parts(study, results, own, paths, paper, covered),
        *([parity] if many else []),
    ]
    tests_page = "paper.md" if of_paper else "supplement.md"
    figures = _drawn(
        [*main, *of_paper, *supplement]
    )  # before anything is written: an error leaves the old report
    pages = {
        "README.md": study_page(
            study, results, _findings(results, gains, own, paper, of_paper, covered), main, tests_page
        ),
        "paper.md": linked_page(f"`{study.name}` beside the paper", paper_introduction(), of_paper),
        "supplement.md": linked_page(f"Supplement of `{study.name}`", _SUPPLEMENT, supplement),
        "costs.md": costs_page(study, results, source_model_rows(study, paths)),
    }
    tables: dict[str, Sequence[Row]] = {f"{TABLES}/transfer_gains.csv": _gain_rows(results, gains)}
    for part in (*main, *of_paper, *supplement):
        tables |= part.tables
    _write(out_dir, pages, {name: rows for name, rows in tables.items() if rows}, figures)
    write_rows(out_dir / "cells.csv", cell_rows(results))
    write_rows(out_dir / "targets.csv", target_rows(study, results, paper))
    write_rows(out_dir / "runs.csv", run_rows(results))
    methods, points = out_dir / "plots" / "methods.csv", out_dir / "plots" / "parity.csv"
    write_rows(methods, method_rows(results), ("target", "method", "cv_mae_relative"))
    write_rows(points, parity_rows(results), ("target", "y_true", "y_pred"))
    write_metrics(out_dir / "metrics", results)


def _findings(
    results: Sequence[TargetResults],
    gains: Sequence[Gain],
    own: Sequence[Gain],
    paper: PaperTable,
    of_paper: Sequence[Part],
    covered: Sequence[TargetCoverage],
) -> list[str]:
    """What the page says in short, the comparison with the paper first."""
    more = "Tables 2 to 5 line by line: [paper.md](paper.md). " if of_paper else ""
    lines = [
        *paper_findings(results, paper),
        *findings(results, gains),
        *own_findings(results, own),
        repeats_sentence(repeats(results)),
        median_sentence(results, paper),
        coverage_sentence(covered),
        f"{cell_counts(results)} {more}Every method, source, layer and reason: [supplement.md](supplement.md).",
    ]
    return [line for line in lines if line]


def _gain_rows(results: Sequence[TargetResults], gains: Sequence[Gain]) -> list[Row]:
    by_key = {target.info.key: target for target in results}
    return [
        {
            "target": gain.target,
            "unit": by_key[gain.target].info.unit,
            "tl_minus_sc": gain.difference,
            "low": gain.low,
            "high": gain.high,
            "p": gain.p_value,
            "p_holm": gain.p_adjusted,
            "verdict": gain.verdict,
            "sc_run_id": by_key[gain.target].run_id(by_key[gain.target].best_sc),
            "tl_run_id": by_key[gain.target].run_id(by_key[gain.target].best_tl),
        }
        for gain in gains
    ]


def _sides(results: Sequence[TargetResults]) -> Drawing:
    def draw() -> Figure:
        from crossprop.report.figures import scratch_against_transfer

        return scratch_against_transfer(results)

    return Drawing(
        draw=draw,
        caption="Hold-out MAE of the best scratch and the best transfer model relative to predicting the mean, with "
        "95 % intervals; sorted by TL / SC",
    )


def _parity(results: Sequence[TargetResults]) -> Drawing:
    def draw() -> Figure:
        from crossprop.report.figures import winner_parity

        return winner_parity(results)

    return Drawing(
        draw=draw,
        caption="Hold-out predictions of the model that cross-validation chose; blue SC, orange TL, green a "
        "blend; at most 600 rows are drawn",
    )


def _methods(results: Sequence[TargetResults]) -> Drawing:
    def draw() -> Figure:
        from crossprop.report.figures import method_heatmap

        return method_heatmap(results)

    return Drawing(
        draw=draw,
        caption="Validation MAE of every method on the screening split, best source, relative to the base; methods "
        "were tuned on that split, so it flatters them, most of all those with many sources",
    )


def _drawn(parts: Iterable[Part]) -> dict[str, Figure]:
    return {name: drawing.draw() for part in parts for name, drawing in part.drawings.items()}


def _write(
    out_dir: Path, pages: dict[str, str], tables: dict[str, Sequence[Row]], figures: dict[str, Figure]
) -> None:
    """Write pages, tables and figures, and remove those of an earlier report that this one does not have."""
    from crossprop.report.figures import save_png

    for folder in (out_dir, out_dir / "plots", out_dir / TABLES, out_dir / FIGURES):
        folder.mkdir(parents=True, exist_ok=True)
    kept = {out_dir / name for name in (*tables, *figures)}
    stale = {
        *out_dir.glob("*.png"),
        *(out_dir / FIGURES).glob("*.png"),
        *(out_dir / TABLES).glob("*.csv"),
    } - kept
    for path in stale:
        path.unlink()
    for name, text in pages.items():
        if text:
            (out_dir / name).write_text(text, encoding="utf-8")
        else:
            (out_dir / name).unlink(missing_ok=True)
    for name, rows in tables.items():
        write_rows(out_dir / name, rows)
    for name, figure in figures.items():
        save_png(figure, out_dir / name)
