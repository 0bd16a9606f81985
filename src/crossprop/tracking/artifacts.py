"""The files of a cell's run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crossprop.experiments.results import CellOutcome
from crossprop.tracking.figures import learning_curve_plot, optimisation_history_plot, parity_plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRIALS_FILE = "trials.json"
"""Written as MLflow's ``log_table`` does, so that the UI shows it as a table."""


def write_cell_files(
    folder: Path, outcome: CellOutcome, config_text: str, environment: dict[str, Any]
) -> None:
    """Write what there is of a cell: predictions, trials, configuration, environment, and pictures if it was validated.

    Most cells are only screened: their curves and trials stand in the run's metrics and its table, and drawing them
    would take longer than recording them.

    Args:
        folder: Existing, empty folder.
        outcome: The cell; an empty table leaves its files out.
        config_text: Resolved configuration, YAML.
        environment: Plain values for ``environment.json``.
    """
    result = outcome.result
    if len(outcome.trials):
        write_trials(outcome.trials, folder / TRIALS_FILE)
    write_texts(folder, config_text, environment)
    if not len(outcome.predictions):
        return
    outcome.predictions.to_parquet(folder / "predictions.parquet", index=False)
    save_figure(parity_plot(result, outcome.predictions), folder / "parity.png")
    if len(outcome.history):
        save_figure(learning_curve_plot(result, outcome.history), folder / "learning_curve.png")
    if len(outcome.trials) > 1:
        save_figure(optimisation_history_plot(result, outcome.trials), folder / "optimisation_history.png")


def write_texts(folder: Path, config_text: str, environment: dict[str, Any]) -> None:
    """Write ``configuration.yaml`` and ``environment.json``."""
    (folder / "configuration.yaml").write_text(config_text, encoding="utf-8")
    (folder / "environment.json").write_text(
        json.dumps(environment, indent=1, sort_keys=True), encoding="utf-8"
    )


def write_trials(trials: pd.DataFrame, path: Path) -> None:
    """All trials, pruned and failed ones included, by number; missing values become null."""
    trials.sort_values("number").to_json(path, orient="split", index=False, date_format="iso")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; fast rather than small (a tenth of a second is a lot for thousands of cells)."""
    figure.savefig(path, pil_kwargs={"compress_level": 3})
