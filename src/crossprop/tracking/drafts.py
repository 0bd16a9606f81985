"""A run as plain data, and the one function that writes it: once, whole, whoever is killed in between."""

from __future__ import annotations

import contextlib
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crossprop.errors import TrackingError
from crossprop.tracking.experiments import ensure_experiment
from crossprop.tracking.faults import named_faults
from crossprop.tracking.provenance import process_tags
from crossprop.tracking.store import store_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

FINGERPRINT_TAG = "crossprop.fingerprint"
FAILURE_TAG = "crossprop.failure"
_MAX_PARAM_CHARACTERS = 6000
_METRICS_A_BATCH = 1000
_BAD_CHARACTERS = re.compile(r"[^\w\-. :/]")


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


def write_run(client: MlflowClient, uri: str, draft: RunDraft, write_files: Callable[[Path], None]) -> str:
    """Write the run, unless a finished one with the same identity and fingerprint exists; return its id.

    What an earlier process left half-written under this identity is ended as KILLED and deleted, so that
    nothing is shown twice.

    Args:
        client: Client of the store at ``uri``.
        uri: URI of the store.
        draft: What to write.
        write_files: Fills an empty folder with the artifacts; called only if there is a run to write.

    Raises:
        TrackingError: A value is not finite, or the store refuses.
    """
    draft.check()
    with named_faults(uri, f"recording {draft.name!r} in {draft.experiment}"), store_lock(uri):
        experiment_id = ensure_experiment(client, uri, draft.experiment, draft.notes)
        known = _finished_run(client, experiment_id, draft)
        if known is not None:
            return known
        with tempfile.TemporaryDirectory(prefix="crossprop-run-") as folder:
            write_files(Path(folder))
            return _write(client, experiment_id, draft, Path(folder))


def metric_key(text: str) -> str:
    """A name that MLflow accepts: letters, digits, ``_-.: /``; anything else becomes ``_``."""
    return _BAD_CHARACTERS.sub("_", text)


def _finished_run(client: MlflowClient, experiment_id: str, draft: RunDraft) -> str | None:
    """Id of the run that already tells this; other leftovers of the same identity are removed."""
    key, value = draft.identity
    finished = None
    for run in client.search_runs([experiment_id], f"tags.`{key}` = '{value}'"):
        tags, status = run.data.tags, run.info.status
        complete = status == "FINISHED" or (status == "FAILED" and FAILURE_TAG in tags)
        if not complete:
            client.set_terminated(run.info.run_id, status="KILLED")
            client.delete_run(run.info.run_id)
        elif tags.get(FINGERPRINT_TAG) == draft.fingerprint:
            finished = finished or str(run.info.run_id)
    return finished


def _write(client: MlflowClient, experiment_id: str, draft: RunDraft, files: Path) -> str:
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
