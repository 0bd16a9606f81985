"""The whole report of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossprop.reporting.comparisons import transfer_gains
from crossprop.reporting.costs import costs_page
from crossprop.reporting.page import study_page
from crossprop.reporting.plot_data import method_rows, parity_rows, write_metrics
from crossprop.reporting.results_tree import TargetResults, load_study_results
from crossprop.reporting.study_info import PaperTable, StudyInfo
from crossprop.reporting.tables import cell_rows, run_rows, target_rows, write_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTIONS = {
    "scratch_against_transfer.png": "Hold-out MAE of the best scratch and the best transfer model relative "
    "to predicting the mean, with 95 % intervals; sorted by TL / SC",
    "winner_parity.png": "Hold-out predictions of the model that cross-validation chose; blue SC, orange TL",
    "method_heatmap.png": "Validation MAE of every method on the screening split, best source, relative to "
    "the base; methods were tuned on that split, so it flatters them, most of all those with many sources",
    "extraction_layers.png": "Extraction layers that tuning chose, over targets and sources",
    "ours_against_paper.png": "Hold-out MAE of our winner divided by the lowest of the paper, 95 % intervals",
}


def summarize(study_info: StudyInfo, results_root: Path, out_dir: Path, paper: PaperTable) -> None:
    """Write tables, figures and pages of a study.

    Args:
        study_info: The study and the cells that its configuration enumerates.
        results_root: Folder that holds ``<study>/<target>/``.
        out_dir: Folder of the report, made if it is not there.
        paper: The paper's errors by target key; targets without may be absent or None.

    Raises:
        StoreError: Results are missing, damaged, or of other cells than the configuration enumerates.
    """
    results = load_study_results(study_info, results_root)
    gains = transfer_gains(results)
    drawings = _draw(results, paper)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "plots").mkdir(exist_ok=True)
    write_rows(out_dir / "cells.csv", cell_rows(results))
    write_rows(out_dir / "targets.csv", target_rows(study_info, results, paper))
    write_rows(out_dir / "runs.csv", run_rows(results))
    write_rows(
        out_dir / "plots" / "methods.csv", method_rows(results), ("target", "method", "cv_mae_relative")
    )
    write_rows(out_dir / "plots" / "parity.csv", parity_rows(results), ("target", "y_true", "y_pred"))
    write_metrics(out_dir / "metrics", results)
    _write_figures(out_dir, drawings)
    captions = {name: _CAPTIONS[name] for name in drawings}
    page = study_page(study_info, results, gains, paper, captions)
    (out_dir / "README.md").write_text(page, encoding="utf-8")
    (out_dir / "costs.md").write_text(costs_page(study_info, results), encoding="utf-8")


def _draw(results: Sequence[TargetResults], paper: PaperTable) -> dict[str, Figure]:
    """Figures by file name; matplotlib is imported here, so that reading a table does not wait for it."""
    from crossprop.reporting import figures, grid_figures

    drawings = {
        "scratch_against_transfer.png": figures.scratch_against_transfer(results),
        "winner_parity.png": figures.winner_parity(results),
        "method_heatmap.png": grid_figures.method_heatmap(results),
        "extraction_layers.png": grid_figures.extraction_layers(results),
        "ours_against_paper.png": figures.ours_against_paper(results, paper),
    }
    return {name: figure for name, figure in drawings.items() if figure is not None}


def _write_figures(out_dir: Path, drawings: Mapping[str, Figure]) -> None:
    from crossprop.reporting.figure_style import save_png

    for name in _CAPTIONS:
        (out_dir / name).unlink(missing_ok=True)
    for name, figure in drawings.items():
        save_png(figure, out_dir / name)
