"""Recorders: one MLflow run per cell and one per source network."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossprop.errors import TrackingError
from crossprop.experiments.results import CellOutcome, CellResult, Scalar, StoreOutOfReachError
from crossprop.tracking.figures import (
    fold_curves,
    history_plot,
    learning_curve_plot,
    optimisation_history_plot,
    parity_plot,
)
from crossprop.tracking.provenance import RunContext, process_tags
from crossprop.tracking.store import analyze_store, named_faults, open_client, sqlite_path, store_lock

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

_MAX_PARAM_CHARACTERS = 6000


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set as MLflow shows it beside a run.

    Attributes:
        name: E.g. ``exfoliation_energy.train``.
        digest: Content hash; MLflow keeps 36 characters.
        context: ``training``, ``validation`` or ``testing``.
        source: Path or URL of the table.
        unit: Unit of its column ``value``.
        n_rows: Rows used.
    """

    name: str
    digest: str
    context: str
    source: str
    unit: str
    n_rows: int


@dataclass(frozen=True, kw_only=True)
class RunDraft:
    """All that one run will hold.

    Attributes:
        experiment: Name of its experiment.
        notes: Description of the experiment, used when it is created; may hold ``EXPERIMENT_ID``.
        identity: Tag that names the thing recorded; at most one finished run of a fingerprint carries it.
        fingerprint: Digest of what was recorded: another outcome of the same thing gets a run of its own.
        name: Shown in the list of runs.
        tags: Further tags.
        params: Hyperparameters and settings, as text.
        metrics: ``(key, value, step)``; every value must be finite.
        data_sets: Inputs.
        seconds: Time that the work itself took: the run starts that much before now.
        failure: Why the work failed; the run then ends as FAILED.
    """

    experiment: str
    notes: str
    identity: tuple[str, str]
    fingerprint: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: tuple[tuple[str, float, int], ...]
    data_sets: tuple[DataSet, ...] = ()
    seconds: float = 0.0
    failure: str | None = None

    def check(self) -> None:
        """Refuse what MLflow would accept silently and show wrongly: NaN, infinities, texts that it cuts.

        Raises:
            TrackingError: The message names the run and the value.
        """
        for key, value, step in self.metrics:
            if not math.isfinite(value):
                raise TrackingError(
                    f"Metric {key!r} of {self.name!r} in {self.experiment} is {value} (step {step}). A run "
                    "is recorded with finite numbers only: find out why it diverged, or record it as failed."
                )
        for key, text in self.params.items():
            if len(text) > _MAX_PARAM_CHARACTERS:
                raise TrackingError(
                    f"Parameter {key!r} of {self.name!r} has {len(text)} characters; MLflow cuts at "
                    f"{_MAX_PARAM_CHARACTERS}. Shorten it or write it to an artifact."
                )


EXPERIMENT_ID = "{experiment_id}"
"""Stands in an experiment's notes for its id, which is known once it is created."""

_VIEW_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.sharedViewState.crossprop": json.dumps(
        {
            "orderByKey": "metrics.`cv_mae_mean`",
            "orderByAsc": True,
            "selectedColumns": [
                *(
                    f"metrics.`{key}`"
                    for key in ("cv_mae_mean", "cv_mae_std", "test_mae", "test_mae_ensemble")
                ),
                *(f"metrics.`{key}`" for key in ("val_mae", "test_r2")),
                "attributes.`Duration`",
            ],
        }
    ),
}
"""Opens the UI on training runs, and keeps a view of them: winner first, the errors as columns
(``#/experiments/<id>/runs?viewStateShareKey=crossprop``)."""


def ensure_experiment(client: MlflowClient, uri: str, name: str, notes: str) -> str:
    """Id of the experiment, created if absent; of several processes that try, all get the same one.

    Raises:
        TrackingError: Somebody has deleted the experiment: the message says how to restore it.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = sqlite_path(uri)
        folder = None if path is None else str(path.parent / "mlruns" / name)
        tags = {"mlflow.note.content": notes, **_VIEW_TAGS}
        try:
            created = str(client.create_experiment(name, artifact_location=folder, tags=tags))
            client.set_experiment_tag(created, "mlflow.note.content", notes.replace(EXPERIMENT_ID, created))
            return created
        except MlflowException as error:
            experiment = client.get_experiment_by_name(name)
            if experiment is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment {name!r} was deleted in {uri}. Restore it with `mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}`, or remove it for good with `mlflow gc "
            f"--experiment-ids {experiment.experiment_id}`."
        )
    return str(experiment.experiment_id)


FINGERPRINT_TAG = "crossprop.fingerprint"
FAILURE_TAG = "crossprop.failure"
_METRICS_A_BATCH = 1000
_RUNS_A_PAGE = 1000
_RUNS_BETWEEN_STATISTICS = 500
_BAD_CHARACTERS = re.compile(r"[^\w\-. :/]")


@dataclass
class _Known:
    """What one experiment held when it was first asked, and what was written since.

    Attributes:
        experiment_id: Its id.
        finished: Run ids by (value of the identity tag, fingerprint).
        leftovers: Runs that a process left half-written, by value of the identity tag.
    """

    experiment_id: str
    finished: dict[tuple[str, str], str] = field(default_factory=dict)
    leftovers: dict[str, list[str]] = field(default_factory=dict)


class RunWriter:
    """Writes runs into one store and remembers what is there, so that a run costs no search of its own.

    Two processes that write the same runs at the same time are kept apart elsewhere, by the targets' locks.

    Args:
        uri: URI of the store, prepared; it is opened with the first run.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: MlflowClient | None = None
        self._known: dict[tuple[str, str], _Known] = {}
        self._written = 0

    def write(self, draft: RunDraft, write_files: Callable[[Path], None]) -> str:
        """Write the run, unless a finished one with the same identity and fingerprint exists; return its id.

        What an earlier process left half-written under this identity is ended as KILLED and deleted, so that
        nothing is shown twice.

        Args:
            draft: What to write.
            write_files: Fills an empty folder with the artifacts; called only if there is a run to write.

        Raises:
            StoreOutOfReachError: The store does not answer for now.
            TrackingError: A value is not finite, or the store refuses.
        """
        draft.check()
        remembered = (draft.experiment, draft.identity[0]) in self._known
        try:
            return self._write(draft, write_files)
        except StoreOutOfReachError:
            self._known.clear()
            raise
        except TrackingError:
            self._known.clear()
            if not remembered:
                raise
            # What was remembered may be stale, e.g. an experiment that somebody deleted: ask anew, once.
            return self._write(draft, write_files)

    def _write(self, draft: RunDraft, write_files: Callable[[Path], None]) -> str:
        if self._client is None:
            self._client = open_client(self._uri)
        client, uri = self._client, self._uri
        with named_faults(uri, f"recording {draft.name!r} in {draft.experiment}"), store_lock(uri):
            known = self._look_up(client, draft)
            for run_id in known.leftovers.pop(draft.identity[1], []):
                client.set_terminated(run_id, status="KILLED")
                client.delete_run(run_id)
            name = (draft.identity[1], draft.fingerprint)
            if name not in known.finished:
                with tempfile.TemporaryDirectory(prefix="crossprop-run-") as folder:
                    write_files(Path(folder))
                    known.finished[name] = _write_run(client, known.experiment_id, draft, Path(folder))
                self._written += 1
                if self._written % _RUNS_BETWEEN_STATISTICS == 0:
                    analyze_store(uri)
            return known.finished[name]

    def _look_up(self, client: MlflowClient, draft: RunDraft) -> _Known:
        key = (draft.experiment, draft.identity[0])
        if key not in self._known:
            known = _Known(ensure_experiment(client, self._uri, draft.experiment, draft.notes))
            token = None
            while True:
                page = client.search_runs([known.experiment_id], max_results=_RUNS_A_PAGE, page_token=token)
                for run in page:
                    _remember(known, run, draft.identity[0])
                token = page.token
                if not token:
                    break
            self._known[key] = known
        return self._known[key]


def metric_key(text: str) -> str:
    """A name that MLflow accepts: letters, digits, ``_-.: /``; anything else becomes ``_``."""
    return _BAD_CHARACTERS.sub("_", text)


def _remember(known: _Known, run: Run, identity: str) -> None:
    tags, status, run_id = run.data.tags, run.info.status, str(run.info.run_id)
    value = tags.get(identity)
    if value is None:
        return
    if status == "FINISHED" or (status == "FAILED" and FAILURE_TAG in tags):
        known.finished.setdefault((value, tags.get(FINGERPRINT_TAG, "")), run_id)
    else:
        known.leftovers.setdefault(value, []).append(run_id)


def _write_run(client: MlflowClient, experiment_id: str, draft: RunDraft, files: Path) -> str:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    tags = {
        **draft.tags,
        draft.identity[0]: draft.identity[1],
        FINGERPRINT_TAG: draft.fingerprint,
        **process_tags(),
        **({FAILURE_TAG: draft.failure[:4000]} if draft.failure else {}),
    }
    run_id = str(
        client.create_run(
            experiment_id, start_time=now - int(draft.seconds * 1000), tags=tags, run_name=draft.name
        ).info.run_id
    )
    try:
        metrics = [Metric(metric_key(key), value, now, step) for key, value, step in draft.metrics]
        params = [Param(metric_key(key), text) for key, text in draft.params.items()]
        client.log_batch(run_id, metrics=metrics[:_METRICS_A_BATCH], params=params)
        for start in range(_METRICS_A_BATCH, len(metrics), _METRICS_A_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
        if draft.data_sets:
            client.log_inputs(run_id, datasets=[_input(d) for d in draft.data_sets])
        client.log_artifacts(run_id, str(files))
        client.set_terminated(run_id, status="FAILED" if draft.failure else "FINISHED", end_time=now)
    except BaseException:
        with contextlib.suppress(Exception):
            client.set_terminated(run_id, status="KILLED")
        raise
    return run_id


def _input(data_set: DataSet) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [
        {"type": "string", "name": "formula", "required": True},
        {
            "type": "double",
            "name": f"value ({data_set.unit})" if data_set.unit else "value",
            "required": True,
        },
    ]
    entity = Dataset(
        name=data_set.name,
        digest=data_set.digest[:36],
        source_type="http" if "://" in data_set.source else "local",
        source=json.dumps({"url" if "://" in data_set.source else "uri": data_set.source}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": data_set.n_rows, "unit": data_set.unit}),
    )
    return DatasetInput(dataset=entity, tags=[InputTag(key="mlflow.data.context", value=data_set.context)])


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


_SCALARS = (
    "val_mae", "cv_mae_mean", "cv_mae_std", "test_mae", "test_mae_low", "test_mae_high", "test_q95",
    "test_r2", "test_mae_ensemble", "test_mae_median", "strict_test_mae",
)  # fmt: skip
_MOST_STEPS = 100
_MOST_STEPS_SCREENED = 25


def draft_of_cell(outcome: CellOutcome, context: RunContext) -> RunDraft:
    """Everything about a cell's run but its files.

    Raises:
        TrackingError: An error of the cell is NaN or infinite.
    """
    result, cost = outcome.result, outcome.cost
    return RunDraft(
        experiment=f"{result.study}/{result.target}",
        notes=experiment_notes(result, context),
        identity=("crossprop.cell", result.cell),
        fingerprint=fingerprint(result, context.data_hashes.get(result.target, "")),
        name=result.label,
        tags=_tags(outcome, context),
        params=_params(result),
        metrics=_metrics(outcome),
        data_sets=_data_sets(result, context),
        seconds=cost.tune_seconds + cost.fit_seconds,
        failure=result.failure,
    )


def fingerprint(result: CellResult, data_hash: str) -> str:
    """Digest of a cell's facts and data: the same for the same outcome, whatever it cost to compute."""
    text = json.dumps({**result.as_dict(), "data": data_hash}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def experiment_notes(result: CellResult, context: RunContext) -> str:
    """Markdown description of a target's experiment."""
    what = context.descriptions.get(result.target, result.target)
    unit = result.unit or "none (dimensionless)"
    return (
        f"{what}. Unit: {unit}.\n\n[Compare the cells](#/experiments/{EXPERIMENT_ID}/runs"
        "?workflowType=machine_learning&viewStateShareKey=crossprop), best first. One run is one cell "
        f"(method × source × representation) of study `{result.study}`, protocol `{result.protocol}`.\n\nThe "
        "winner is chosen by `cv_mae_mean`; `test_mae` is measured once, on the hold-out. `cv_mae` has one "
        "step per fold. Runs without `cv_mae_mean` were screened only."
    )


def curve_metrics(key: str, curve: pd.Series, most_steps: int = _MOST_STEPS) -> list[tuple[str, float, int]]:
    """At most so many steps of a curve indexed by epoch, first and last among them; gaps are left out."""
    curve = curve.dropna()
    picks = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), most_steps)).round().astype(int))
    return [(key, float(curve.iloc[i]), int(curve.index[i])) for i in picks]


def source_tags() -> dict[str, str]:
    """Who and what made a run, for the UI's columns ``Created by`` and ``Source``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "crossprop", "mlflow.source.type": "LOCAL"}


def _tags(outcome: CellOutcome, context: RunContext) -> dict[str, str]:
    result = outcome.result
    optional = {
        "crossprop.source": result.source,
        "crossprop.representation": result.representation,
        "crossprop.layer": result.layer,
        "crossprop.data_hash": context.data_hashes.get(result.target),
        "crossprop.source_data_hash": context.data_hashes.get(result.source) if result.source else None,
    }
    tags = {
        "crossprop.study": result.study,
        "crossprop.target": result.target,
        "crossprop.method": str(result.method),
        "crossprop.side": str(result.method.side),
        "crossprop.protocol": result.protocol,
        "crossprop.unit": result.unit,
        "mlflow.note.content": _note(result),
        **{key: str(value) for key, value in optional.items() if value},
        **context.git_tags(),
        **source_tags(),
    }
    if len(outcome.trials):
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": TRIALS_FILE, "type": "table"}])
    return tags


def _note(result: CellResult) -> str:
    unit = f" {result.unit}" if result.unit else ""
    lines = [f"**{result.method.notation}** for **{result.target}**"]
    if result.source:
        lines[0] += f", from **{result.source}**" + (f", layer `{result.layer}`" if result.layer else "")
    elif result.representation:
        lines[0] += f", on {result.representation.short}"
    if result.failure:
        lines.append(f"Failed: {result.failure}")
    if result.cv_mae_mean is not None and result.cv_mae is not None:
        lines.append(
            f"Cross-validation MAE {result.cv_mae_mean:.4g} ± {result.cv_mae_std:.2g}{unit} "
            f"({len(result.cv_mae)} folds)"
        )
    elif result.val_mae is not None:
        why = "" if result.stopped else "; screened only, not the best of its method"
        lines.append(f"Screening MAE {result.val_mae:.4g}{unit}{why}")
    if result.stopped:
        lines.append(f"Stopped: {result.stopped}")
    if result.test_mae is not None:
        interval = ""
        if result.test_mae_low is not None and result.test_mae_high is not None:
            interval = f" [{result.test_mae_low:.4g}, {result.test_mae_high:.4g}]"
        lines.append(f"Hold-out MAE {result.test_mae:.4g}{interval}{unit} on {result.n_test:,} rows")
    if result.strict_test_mae is not None and result.strict_n_train is not None:
        lines.append(
            f"Without training rows whose composition is in the hold-out: MAE {result.strict_test_mae:.4g}{unit} "
            f"({result.strict_n_train:,} rows to learn from)"
        )
    lines.append(f"{result.n_train:,} rows to learn from, {result.n_trials} trials")
    return "\n\n".join(lines)


def _params(result: CellResult) -> dict[str, str]:
    params = {
        "method": str(result.method),
        "source": result.source,
        "representation": result.representation and str(result.representation),
        "layer": result.layer,
        "n_train": result.n_train,
        "n_test": result.n_test,
        "n_trials": result.n_trials,
        "best_fold": result.best_fold,
        "strict_n_train": result.strict_n_train,
        "stopped": result.stopped,
    }
    clash = sorted(set(params) & set(result.hyperparameters))
    tuned = {
        (f"tuned.{key}" if key in clash else key): value for key, value in result.hyperparameters.items()
    }
    settings = {key: value for key, value in params.items() if value is not None}
    return {key: str(value) for key, value in (settings | tuned).items()}


def _metrics(outcome: CellOutcome) -> tuple[tuple[str, float, int], ...]:
    result, cost = outcome.result, outcome.cost
    metrics = [(name, float(value), 0) for name in _SCALARS if (value := getattr(result, name)) is not None]
    metrics += [("cv_mae", float(value), fold) for fold, value in enumerate(result.cv_mae or ())]
    metrics += [("rung_mae", float(value), fold) for fold, value in enumerate(result.rung_mae or ())]
    metrics += [
        ("tune_seconds", cost.tune_seconds, 0),
        ("fit_seconds", cost.fit_seconds, 0),
        ("peak_memory_mib", cost.peak_memory / 2**20, 0),
    ]
    if len(outcome.history):
        most_steps = _MOST_STEPS if result.cv_mae is not None else _MOST_STEPS_SCREENED
        for column in ("val_mae", "loss"):
            curve = fold_curves(outcome.history, column).mean(axis=1)
            if not np.isfinite(curve).all() and result.failure is None:
                raise TrackingError(
                    f"The {column} curve of cell {result.cell} ({result.label}, {result.target}) is not "
                    "finite, though the cell did not fail. Check its history."
                )
            metrics += curve_metrics(f"learning_curve/{column}", curve[np.isfinite(curve)], most_steps)
    return tuple(metrics)


def _data_sets(result: CellResult, context: RunContext) -> tuple[DataSet, ...]:
    digest = context.data_hashes.get(result.target)
    if not digest:
        return ()
    shared = {
        "digest": digest,
        "source": context.data_sources.get(result.target, result.target),
        "unit": result.unit,
    }
    return (
        DataSet(name=f"{result.target}.train", context="training", n_rows=result.n_train, **shared),
        DataSet(name=f"{result.target}.test", context="testing", n_rows=result.n_test, **shared),
    )


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
