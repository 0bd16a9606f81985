"""The one place that writes runs: once, whole, whoever is killed in between."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from crossprop.errors import TrackingError
from crossprop.experiments.recording import StoreOutOfReachError
from crossprop.tracking.drafts import DataSet, RunDraft
from crossprop.tracking.experiments import ensure_experiment
from crossprop.tracking.faults import named_faults
from crossprop.tracking.provenance import process_tags
from crossprop.tracking.store import analyze_store, open_client, store_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

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
