"""One MLflow run per cell and one per source network."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic_core import to_json

from crossprop.errors import TrackingError
from crossprop.experiments.results import CellOutcome, CellResult
from crossprop.methods import unit_behind
from crossprop.tracking import figures
from crossprop.tracking.provenance import RunContext, environment, process_is_gone, process_tags
from crossprop.tracking.store import ARTIFACTS, named_faults, open_client, sqlite_path, store_lock, tolerated

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

FINGERPRINT_TAG = "crossprop.fingerprint"
FAILURE_TAG = "crossprop.failure"
WINNER_TAG = "crossprop.winner"  # of the run that the target's challenger is made of
TRIALS_FILE, PREDICTIONS_FILE = "trials.json", "predictions.json"  # as MLflow's ``log_table`` writes tables
_MOST_PREDICTIONS = 1000
EXPERIMENT_ID = "{experiment_id}"  # stands in an experiment's notes for its id
_SCALARS = (
    "val_mae", "cv_mae_mean", "cv_mae_std", "test_mae", "test_mae_low", "test_mae_high", "test_q95",
    "test_r2", "test_mae_ensemble", "test_mae_median", "strict_test_mae",
)  # fmt: skip
_SETTINGS = (
    "method", "source", "representation", "layer", "n_train", "n_test", "n_trials", "best_fold", "strict_n_train",
    "stopped",
)  # fmt: skip
_IDENTIFYING = ("study", "target", "unit", "protocol", "method", "source", "representation", "layer")
_SHOWN_METRICS = ("cv_mae_mean", "cv_mae_std", "test_mae", "test_mae_ensemble", "val_mae", "test_r2")
_SHOWN = ["attributes.`Models`", *(f"metrics.`{key}`" for key in _SHOWN_METRICS), f"tags.`{WINNER_TAG}`"]
# Keeps a view of an experiment's runs in MLflow's interface: least error first, with errors and the winner's model.
VIEW_TAG = "mlflow.sharedViewState.crossprop"
_VIEW = {"orderByKey": "metrics.`cv_mae_mean`", "orderByAsc": True, "selectedColumns": _SHOWN}
_VIEW_TAGS = {"mlflow.experimentKind": "custom_model_development", VIEW_TAG: json.dumps(_VIEW)}
_CONTEXTS = {"train": "training", "validation": "validation", "test": "testing"}
_MOST_STEPS, _MOST_STEPS_SCREENED = 100, 25
_METRICS_A_BATCH = 1000
accepted = partial(re.compile(r"[^\w\-. :/]").sub, "_")  # what MLflow takes as name of a metric or parameter


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """All that one run will hold, and the notes of its experiment; ``metrics`` are ``(key, value, step)``."""

    experiment: str
    notes: str
    identity: tuple[str, str]
    fingerprint: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: list[tuple[str, float, int]]
    data_sets: list[DatasetInput]
    seconds: float
    failure: str | None = None


def record_cell(context: RunContext, outcome: CellOutcome) -> str:
    """Keep a cell as a run of ``<study>/<target>``, once, and return its id; a NaN or infinity is a TrackingError."""
    spec, client = spec_of_cell(outcome, context), open_client(context.uri)
    return _write_run(client, spec, lambda folder: _write_cell_files(folder, outcome, context))


def record_pretraining(context: RunContext, provenance: Mapping[str, Any], history: pd.DataFrame) -> str:
    """Keep a source network as a run of ``<study>/sources``, once; ``history`` has ``epoch`` and curves."""
    curves = [c for c in history.columns if c != "epoch" and pd.api.types.is_numeric_dtype(history[c])]
    source, unit = provenance["source"], provenance["unit"]
    n_train, n_validation = provenance["n_train"], provenance["n_validation"]
    values = {
        "val_mae": provenance["validation_mae"],
        "val_mae_of_median": provenance["validation_mae_of_median"],
        **{f"val_mae/{k}": mae for k, mae in provenance.get("validation_mae_by_source", {}).items()},
        "peak_memory_mib": provenance["peak_memory"] / 2**20,
    }
    memory, errors = values["peak_memory_mib"], [k for k in values if k.startswith("val_mae")]
    described = ", ".join(f"{key} {values[key]:.4g}{unit_behind(unit)}" for key in errors)
    metrics = [(key, float(value), 0) for key, value in values.items()]
    for column in curves:
        metrics += _curve(f"learning_curve/{column}", history.set_index("epoch")[column])
    params = {**provenance["recipe"], "seed": provenance["seed"], "edition": provenance["edition"]}
    spec = RunSpec(
        experiment=f"{context.study}/sources",
        notes=f"Source networks of study `{context.study}`: pretrained once, transferred to every target.",
        identity=("crossprop.source_key", provenance["key"]),
        fingerprint=hashlib.sha256(f"{provenance['key']}\n{described}".encode()).hexdigest()[:32],
        name=source,
        tags={
            "crossprop.study": context.study,
            "crossprop.source": source,
            "crossprop.unit": unit,
            "crossprop.data_hash": context.data_hashes.get(source, ""),
            "mlflow.note.content": (
                f"Source network for **{context.descriptions.get(source, source)}**\n\n{described}; "
                f"{n_train:,} rows to learn from, {n_validation:,} to validate; peak memory {memory:,.0f} MiB"
            ),
            **context.code_tags(),
        },
        params={key: str(value) for key, value in params.items()},
        metrics=metrics,
        data_sets=_data_sets(context, source, unit, train=n_train, validation=n_validation),
        seconds=provenance["seconds"],
    )

    def write_files(folder: Path) -> None:
        _write_texts(folder, context)
        text = json.dumps(dict(provenance), indent=1, default=str)
        (folder / "provenance.json").write_text(text, encoding="utf-8")
        history.to_csv(folder / "history.csv", index=False)
        if curves:
            figure = figures.history_plot(source, history, curves, "error" + unit_behind(unit, " ({})"))
            figures.save_figure(figure, folder / "learning_curve.png")

    return _write_run(open_client(context.uri), spec, write_files)


def _write_run(client: MlflowClient, spec: RunSpec, write_files: Callable[[Path], None]) -> str:
    """Write a run, unless a finished one with the same identity and fingerprint exists; return its id.

    Unfinished runs of this identity, which an earlier process left behind, are ended as KILLED and deleted.
    """
    for metric, number, step in spec.metrics:  # MLflow would accept it silently and show it wrongly
        if not math.isfinite(number):
            raise TrackingError(
                f"Metric {metric!r} of {spec.name!r} in {spec.experiment} is {number} (step {step}). Find out why it "
                "diverged, or record it as failed."
            )
    uri, (key, value) = client.tracking_uri, spec.identity
    with named_faults(uri, f"recording {spec.name!r} in {spec.experiment}"), store_lock(uri):
        experiment_id = ensure_experiment(client, spec.experiment, spec.notes)
        finished = None
        for run in client.search_runs([experiment_id], f"tags.`{key}` = '{value}'"):
            tags, status = run.data.tags, run.info.status
            if status == "RUNNING" and sqlite_path(uri) is None and not process_is_gone(tags):
                continue  # another process writes it: servers have no lock
            if status != "FINISHED" and (status != "FAILED" or FAILURE_TAG not in tags):
                client.set_terminated(run.info.run_id, status="KILLED")
                client.delete_run(run.info.run_id)
            elif tags.get(FINGERPRINT_TAG) == spec.fingerprint:
                finished = str(run.info.run_id)
        if finished is not None:
            return finished
        with tempfile.TemporaryDirectory(prefix="crossprop-run-") as folder:
            write_files(Path(folder))
            return _create_run(client, experiment_id, spec, folder)


def ensure_experiment(client: MlflowClient, name: str, notes: str) -> str:
    """Id of the experiment, created if absent; of several processes that try, all get the same one."""
    path = sqlite_path(client.tracking_uri)
    folder = None if path is None else str(path.parent / ARTIFACTS / name)
    if client.get_experiment_by_name(name) is None:
        with tolerated("RESOURCE_ALREADY_EXISTS"):
            client.create_experiment(name, artifact_location=folder)
    experiment = client.get_experiment_by_name(name)
    number = str(experiment.experiment_id)
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment {name!r} was deleted in {client.tracking_uri}. Restore it (`mlflow experiments restore "
            f"--experiment-id {number}`), or remove it for good (`mlflow gc --experiment-ids {number}`)."
        )
    for key, value in {"mlflow.note.content": notes.replace(EXPERIMENT_ID, number), **_VIEW_TAGS}.items():
        if key not in experiment.tags or (key == VIEW_TAG and experiment.tags[key] != value):
            client.set_experiment_tag(number, key, value)
    return number


def runs_page(experiment_id: str) -> str:
    """Address of an experiment's runs, in the view that ``VIEW_TAG`` keeps, within MLflow's interface."""
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=crossprop"


def fingerprint(result: CellResult, data_hash: str) -> str:
    """Digest of a cell's facts and data: the same for the same outcome, whatever it cost to compute."""
    text = json.dumps({**result.as_dict(), "data": data_hash}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _curve(key: str, curve: pd.Series, most_steps: int = _MOST_STEPS) -> list[tuple[str, float, int]]:
    """At most so many steps of a curve indexed by epoch, first and last among them; what is not finite is left out."""
    curve = curve[np.isfinite(curve)]
    picks = np.linspace(0, len(curve) - 1, min(len(curve), most_steps)).round().astype(int)
    return [(key, float(curve.iloc[i]), int(curve.index[i])) for i in picks]


def spec_of_cell(outcome: CellOutcome, context: RunContext) -> RunSpec:
    """Everything about a cell's run but its files."""
    result = outcome.result
    target, unit = result.target, result.unit
    named = unit_behind(unit, "{}") or "none (dimensionless)"
    settings = {key: getattr(result, key) for key in _SETTINGS if getattr(result, key) is not None}
    tuned = {f"tuned.{k}" if k in _SETTINGS else k: v for k, v in result.hyperparameters.items()}
    return RunSpec(
        experiment=f"{result.study}/{target}",
        notes=(
            f"{context.descriptions.get(target, target)}. Unit: {named}.\n\n"
            f"[Compare the cells]({runs_page(EXPERIMENT_ID)}), best first. One run is one cell "
            f"(method × source × representation) of study `{result.study}`, protocol `{result.protocol}`.\n\nThe "
            "winner is chosen by `cv_mae_mean`; `test_mae` is measured once, on the hold-out. `cv_mae` has one "
            "step per fold. Runs without `cv_mae_mean` were screened only."
        ),
        identity=("crossprop.cell", result.cell),
        fingerprint=fingerprint(result, context.data_hashes.get(target, "")),
        name=result.label,
        tags={
            **cell_tags(result, context),
            "mlflow.note.content": describe(result),
            "mlflow.loggedArtifacts": json.dumps([{"path": name, "type": "table"} for name in _tables(outcome)]),
            **context.code_tags(),
        },
        params={key: str(value) for key, value in (settings | tuned).items()},
        metrics=_metrics(outcome),
        data_sets=_data_sets(context, target, unit, train=result.n_train, test=result.n_test),
        seconds=outcome.cost.tune_seconds + outcome.cost.fit_seconds,
        failure=result.failure,
    )


def _create_run(client: MlflowClient, experiment_id: str, spec: RunSpec, files: str) -> str:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    tags = {
        **spec.tags,
        spec.identity[0]: spec.identity[1],
        FINGERPRINT_TAG: spec.fingerprint,
        **process_tags(),
        **({FAILURE_TAG: spec.failure[:4000]} if spec.failure else {}),
    }
    started = now - int(spec.seconds * 1000)
    run = client.create_run(experiment_id, start_time=started, tags=tags, run_name=spec.name)
    run_id = str(run.info.run_id)
    try:
        metrics = [Metric(accepted(key), value, now, step) for key, value, step in spec.metrics]
        client.log_batch(run_id, params=[Param(accepted(key), text) for key, text in spec.params.items()])
        for start in range(0, len(metrics), _METRICS_A_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
        if spec.data_sets:
            client.log_inputs(run_id, datasets=spec.data_sets)
        client.log_artifacts(run_id, files)
        client.set_terminated(run_id, status="FAILED" if spec.failure else "FINISHED", end_time=now)
    except BaseException:
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, status="KILLED")
        raise
    return run_id


def _data_sets(context: RunContext, name: str, unit: str, **n_rows: int) -> list[DatasetInput]:
    """What MLflow shows beside a run: rows of the property's table that were used to train, validate and test."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = context.data_hashes.get(name)
    if not digest:
        return []
    value = {"type": "double", "name": "value" + unit_behind(unit, " ({})"), "required": True}
    columns = [{"type": "string", "name": "formula", "required": True}, value]
    return [
        DatasetInput(
            dataset=Dataset(
                name=f"{name}.{part}",
                digest=digest[:36],
                source_type="local",
                source=json.dumps({"uri": context.data_sources.get(name, name)}),
                schema=json.dumps({"mlflow_colspec": columns}),
                profile=json.dumps({"num_rows": n, "unit": unit}),
            ),
            tags=[InputTag("mlflow.data.context", _CONTEXTS[part])],
        )
        for part, n in n_rows.items()
    ]


def cell_tags(result: CellResult, context: RunContext) -> dict[str, str]:
    """What a cell is, as tags of its run and of a version made of it; what is not known is left out."""
    tags = {key: getattr(result, key) for key in _IDENTIFYING} | {
        "side": result.method.side,
        "data_hash": context.data_hashes.get(result.target),
    }
    return {f"crossprop.{key}": str(value) for key, value in tags.items() if value}


def describe(result: CellResult) -> str:
    """What a cell is and how well it does, in markdown."""
    unit = unit_behind(result.unit)
    what = f"**{result.method.notation}** for **{result.target}**"
    if result.source:
        what += f", from **{result.source}**" + (f", layer `{result.layer}`" if result.layer else "")
    elif result.representation:
        what += f", on {result.representation.short}"
    lines = [what]
    for word, why in (("Failed", result.failure), ("Stopped", result.stopped)):
        if why:
            lines.append(f"{word}: {why[:2000]}")  # a note has 8,000 characters at most
    if result.cv_mae_mean is not None:
        folds = f"({len(result.cv_mae or ())} folds)"
        lines.append(f"Cross-validation MAE {result.cv_mae_mean:.4g} ± {result.cv_mae_std:.3g}{unit} {folds}")
    elif result.val_mae is not None:
        lines.append(f"Screening MAE {result.val_mae:.4g}{unit}")
    if result.test_mae is not None:
        bounds = [f"{v:.4g}" for v in (result.test_mae_low, result.test_mae_high) if v is not None]
        interval = f" [{', '.join(bounds)}]" if bounds else ""
        figure = f"Hold-out MAE {result.test_mae:.4g}{interval}{unit} on {result.n_test:,} rows"
        lines.append(f"{figure}: the fold model with the lowest validation error")
    if result.test_mae_ensemble is not None:
        lines.append(f"Hold-out MAE {result.test_mae_ensemble:.4g}{unit}: the mean of all fold models")
    if result.strict_test_mae is not None:
        strict = f"MAE {result.strict_test_mae:.4g}{unit} ({result.strict_n_train:,} rows to learn from)"
        lines.append(f"Without training rows whose composition is in the hold-out: {strict}")
    trials = f", {result.n_trials} trials" if result.n_trials else ""  # a blend and the plain models are not tuned
    return "\n\n".join([*lines, f"{result.n_train:,} rows to learn from{trials}"])


def _metrics(outcome: CellOutcome) -> list[tuple[str, float, int]]:
    result, cost = outcome.result, outcome.cost
    metrics = [(name, float(value), 0) for name in _SCALARS if (value := getattr(result, name)) is not None]
    for name, folds in (("cv_mae", result.cv_mae), ("rung_mae", result.rung_mae)):
        metrics += [(name, float(value), fold) for fold, value in enumerate(folds or ())]
    metrics += [(name, getattr(cost, name), 0) for name in ("tune_seconds", "fit_seconds")]
    metrics.append(("peak_memory_mib", cost.peak_memory / 2**20, 0))
    if len(outcome.history):
        most_steps = _MOST_STEPS if result.cv_mae is not None else _MOST_STEPS_SCREENED
        for column in ("val_mae", "loss"):
            curve = figures.fold_curves(outcome.history, column).mean(axis=1)
            metrics += _curve(f"learning_curve/{column}", curve, most_steps)
    return metrics


def _tables(outcome: CellOutcome) -> dict[str, pd.DataFrame]:
    """What MLflow's UI shows as tables: the trials, and the predictions of the hold-out, the largest errors first."""
    tables = {}
    if len(outcome.predictions):  # the UI compares runs by the first two columns of the first table
        rows = outcome.predictions.query("split == 'test'")
        rows = rows.assign(error=rows["y_pred_ensemble"] - rows["y_true"])
        worst = rows.sort_values("error", key=np.abs, ascending=False, kind="stable").head(_MOST_PREDICTIONS)
        tables[PREDICTIONS_FILE] = worst[["formula", "y_pred_ensemble", "y_true", "error", "y_pred"]]
    if len(outcome.trials):
        tables[TRIALS_FILE] = outcome.trials.sort_values("number")
    return tables


def _write_cell_files(folder: Path, outcome: CellOutcome, context: RunContext) -> None:
    """Write what there is of a cell; pictures, which take longer than the rest, only if it was cross-validated."""
    result = outcome.result
    for name, table in _tables(outcome).items():
        # not pandas' own JSON, which rounds to ten decimals
        (folder / name).write_bytes(to_json(table.to_dict("split", index=False), inf_nan_mode="null"))
    _write_texts(folder, context)
    if not len(outcome.predictions):
        return
    outcome.predictions.to_parquet(folder / "predictions.parquet", index=False)
    figures.save_figure(figures.parity_plot(result, outcome.predictions), folder / "parity.png")
    if len(outcome.history):
        figure = figures.learning_curve_plot(result, outcome.history)
        figures.save_figure(figure, folder / "learning_curve.png")
    if len(outcome.trials) > 1:
        figure = figures.optimisation_history_plot(result, outcome.trials)
        figures.save_figure(figure, folder / "optimisation_history.png")


def _write_texts(folder: Path, context: RunContext) -> None:
    (folder / "configuration.yaml").write_text(context.config_text, encoding="utf-8")
    text = json.dumps({**environment(), "git": asdict(context.git)}, indent=1, sort_keys=True)
    (folder / "environment.json").write_text(text, encoding="utf-8")
