"""Recorders: one MLflow run per cell and one per source network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from crossprop.experiments.results import CellOutcome, Scalar
from crossprop.tracking.artifacts import save_figure, write_cell_files, write_texts
from crossprop.tracking.cells import curve_metrics, draft_of_cell, source_tags
from crossprop.tracking.context import RunContext
from crossprop.tracking.drafts import DataSet, RunDraft
from crossprop.tracking.figures import history_plot
from crossprop.tracking.writer import RunWriter


class MlflowRecorder:
    """Keeps every finished cell as a run of the experiment ``<study>/<target>``.

    Recording a cell again returns the run it has; the same cell with another outcome (other data, code or
    budget) gets a run beside it. If the store was moved away, the cells are recorded anew in the new one. No
    active run is used, so an enclosing ``mlflow run`` is left alone.
    """

    def __init__(self, context: RunContext) -> None:
        """Store the context; the store is opened with the first cell."""
        self.context = context
        self._writer = RunWriter(context.uri)

    def record(self, outcome: CellOutcome) -> str:
        """Keep the cell and return the id of its run.

        Raises:
            StoreOutOfReachError: The store does not answer for now.
            TrackingError: An error of the cell is NaN or infinite, or the store refuses.
        """

        def write_files(folder: Path) -> None:
            write_cell_files(folder, outcome, self.context.config_text, self.context.environment())

        return self._writer.write(draft_of_cell(outcome, self.context), write_files)


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """One pretrained source network, as its stage hands it on.

    Attributes:
        source: Key of the source property.
        key: Identifies the training (a content hash of data, recipe and code): recorded once.
        unit: Unit of the property.
        n_train: Rows trained on.
        n_validation: Rows validated on.
        params: The recipe.
        metrics: Final numbers by name, e.g. ``val_mae``.
        history: Columns ``epoch`` and any number of curves.
        provenance: Content of ``provenance.json``.
        seconds: Time that the training took.
    """

    source: str
    key: str
    unit: str
    n_train: int
    n_validation: int
    params: Mapping[str, Scalar]
    metrics: Mapping[str, float]
    history: pd.DataFrame
    provenance: Mapping[str, Any]
    seconds: float = 0.0


def record_source(context: RunContext, record: SourceRecord) -> str:
    """Keep a source network as a run of ``<study>/sources``; the same training twice makes one run.

    Returns:
        The run's id.

    Raises:
        TrackingError: A metric is NaN or infinite, or the store refuses.
    """
    draft = _draft_of_source(context, record)

    def write_files(folder: Path) -> None:
        write_texts(folder, context.config_text, context.environment())
        text = json.dumps(dict(record.provenance), indent=1, default=str)
        (folder / "provenance.json").write_text(text, encoding="utf-8")
        record.history.to_csv(folder / "history.csv", index=False)
        if curves := _curves(record.history):
            ylabel = f"error{f' ({record.unit})' if record.unit else ''}"
            save_figure(
                history_plot(record.source, record.history, curves, ylabel), folder / "learning_curve.png"
            )

    return RunWriter(context.uri).write(draft, write_files)


def _draft_of_source(context: RunContext, record: SourceRecord) -> RunDraft:
    digest = context.data_hashes.get(record.source, "")
    unit = f" {record.unit}" if record.unit else ""
    what = context.descriptions.get(record.source, record.source)
    figures = ", ".join(f"{key} {value:.4g}" for key, value in record.metrics.items())
    metrics = [(key, float(value), 0) for key, value in record.metrics.items()]
    by_epoch = record.history.set_index("epoch") if len(record.history) else record.history
    for column in _curves(record.history):
        metrics += curve_metrics(f"learning_curve/{column}", by_epoch[column])
    shared = {
        "digest": digest,
        "source": context.data_sources.get(record.source, record.source),
        "unit": record.unit,
    }
    rows = (("train", "training", record.n_train), ("validation", "validation", record.n_validation))
    return RunDraft(
        experiment=f"{context.study}/sources",
        notes=f"Source networks of study `{context.study}`: pretrained once, transferred to every target.",
        identity=("crossprop.source_key", record.key),
        fingerprint=hashlib.sha256(f"{record.key}\n{figures}".encode()).hexdigest()[:32],
        name=record.source,
        tags={
            "crossprop.study": context.study,
            "crossprop.source": record.source,
            "crossprop.unit": record.unit,
            "crossprop.data_hash": digest,
            "mlflow.note.content": (
                f"Source network for **{what}**\n\n{figures}{unit}; "
                f"{record.n_train:,} rows to learn from, {record.n_validation:,} to validate"
            ),
            **context.git_tags(),
            **source_tags(),
        },
        params={key: str(value) for key, value in record.params.items()},
        metrics=tuple(metrics),
        data_sets=tuple(
            DataSet(name=f"{record.source}.{n}", context=c, n_rows=k, **shared) for n, c, k in rows if digest
        ),
        seconds=record.seconds,
    )


def _curves(history: pd.DataFrame) -> list[str]:
    """Names of the numeric columns beside ``epoch``."""
    return [c for c in history.columns if c != "epoch" and pd.api.types.is_numeric_dtype(history[c])]


def record_pretraining(context: RunContext, provenance: Mapping[str, Any], history: pd.DataFrame) -> str:
    """Keep a source network by the provenance that is saved beside it; returns the run's id."""
    return record_source(
        context,
        SourceRecord(
            source=provenance["source"],
            key=provenance["key"],
            unit=provenance["unit"],
            n_train=provenance["n_train"],
            n_validation=provenance["n_validation"],
            params={**provenance["recipe"], "seed": provenance["seed"], "edition": provenance["edition"]},
            metrics={
                "val_mae": provenance["validation_mae"],
                "val_mae_of_median": provenance["validation_mae_of_median"],
                **{
                    f"val_mae/{source}": mae
                    for source, mae in provenance.get("validation_mae_by_source", {}).items()
                },
                **{f"val_mae/{k}": v for k, v in provenance.get("validation_mae_by_source", {}).items()},
                "peak_memory_mib": provenance["peak_memory"] / 2**20,
            },
            history=history,
            provenance=provenance,
            seconds=provenance["seconds"],
        ),
    )
