"""Registration: a target's winner becomes a version of ``<study>.<target>`` and the challenger."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import crossprop
from crossprop.config import Params
from crossprop.errors import (
    ModelFormatError,
    PromotionError,
    StoreError,
    StoreOutOfReachError,
    TrackingError,
    UnknownModelError,
)
from crossprop.experiments.fingerprint import data_digest, digest, package_versions
from crossprop.experiments.progress import Print, show
from crossprop.experiments.results import CellResult
from crossprop.io import read_json, write_json
from crossprop.methods import Family, Method, unit_behind
from crossprop.models.ensemble import WITH_ATTRIBUTES
from crossprop.models.saved import read_info
from crossprop.paths import StudyPaths
from crossprop.tracking import provenance, registry
from crossprop.tracking.gates import OUTPUTS, gate_evidence, repeats_predictions
from crossprop.tracking.provenance import RunContext
from crossprop.tracking.registry import CHALLENGER, VersionInfo
from crossprop.tracking.runs import FINGERPRINT_TAG, WINNER_TAG, cell_tags, describe, fingerprint
from crossprop.tracking.store import local_path, named_faults, open_client, store_lock, tolerated
from crossprop.tracking.subprocess_check import predict_in_subprocess

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

FILES_TAG = "crossprop.files"
_ERRORS = ("cv_mae_mean", "test_mae", "test_mae_low", "test_mae_high", "test_mae_ensemble")
# Metrics that a logged model carries, and the part of the data that each was measured on.
_MEASURED_ON = {"cv_mae_mean": "train", "test_mae": "test", "test_mae_ensemble": "test", "test_r2": "test"}
_EXAMPLES = 5
_CHECKED = 50
_TIMEOUT_SECONDS = 1_200.0  # long, since other work may use the machine's cores and memory meanwhile
_AT_ONCE = 2
_saving = threading.Lock()  # ``mlflow.pyfunc.save_model`` works with a global variable
_ALWAYS = ("filelock", "h5py", "mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "pydantic", "scipy")
_REGRESSORS = ("scikit-learn", "skops")
_ATTRIBUTES = ("matminer", "pymatgen")


@dataclass(frozen=True)
class Winner:
    """What is to be registered: the winning cell with its run and its saved ensemble (with evidence)."""

    run_id: str
    result: CellResult
    model_folder: Path

    @property
    def name(self) -> str:
        """Name of the registered model."""
        return f"{self.result.study}.{self.result.target}"

    def identity(self, context: RunContext) -> dict[str, str]:
        """Tags that make a version the same as another: cell, data, outcome and files."""
        data_hash = context.data_hashes.get(self.result.target, "")
        return {
            "crossprop.cell": self.result.cell,
            "crossprop.data_hash": data_hash,
            FINGERPRINT_TAG: fingerprint(self.result, data_hash),
            FILES_TAG: digest(read_info(self.model_folder))[:16],  # it holds the errors of the fitted models
        }

    def tags(self, context: RunContext) -> dict[str, str]:
        """All tags of its version; what is not known is left out."""
        result = self.result
        base_mae = gate_evidence(self.model_folder, self.name).base_mae()
        figures = {key: getattr(result, key) for key in _ERRORS} | {"base_mae": base_mae}
        tags = {
            "git_commit": context.git.commit,
            "git_dirty": str(context.git.dirty).lower() if context.git.commit else None,
            "n_train": result.n_train,
            "n_test": result.n_test,
            **{key: f"{value:.6g}" for key, value in figures.items() if value is not None},
        }
        known = {f"crossprop.{key}": str(value) for key, value in tags.items() if value is not None}
        return cell_tags(result, context) | self.identity(context) | known


def register_study(params: Params, paths: StudyPaths, write: Print = show) -> list[VersionInfo]:
    """Register all winners and list them in the study's list of registered versions."""
    hashes = {t: data_digest(pd.read_parquet(paths.prepared(t))) for t in params.study.targets}
    context = provenance.open_study_context(params, paths, hashes)
    winners = []
    for target in params.study.targets:
        winner = _winner(paths.results(target))
        if winner is None:
            write(f"{target}: no cell finished, nothing to register")
        else:
            winners.append(winner)
    versions = [version for version, _ in register_winners(context, winners, write)]
    listed = [{"name": v.name, "version": v.version, "run_id": v.run_id} for v in versions]
    for entry in listed:
        entry["uri"] = f"models:/{entry['name']}@{CHALLENGER}"
    paths.registry.parent.mkdir(parents=True, exist_ok=True)
    write_json(paths.registry, listed)
    return versions


def register_winners(
    context: RunContext, winners: Iterable[Winner], write: Print = show
) -> list[tuple[VersionInfo, bool]]:
    """Register winners of different targets as challengers: versions, and whether new; one refused stops no other."""
    import mlflow

    client = open_client(context.uri)
    done, errors = [], []
    with ThreadPoolExecutor(_AT_ONCE) as threads, ExitStack() as ending:
        # MLflow's registry looks a logged model up in the process's own store, whatever its client is of.
        ending.callback(mlflow.set_tracking_uri, os.environ.get("MLFLOW_TRACKING_URI"))
        mlflow.set_tracking_uri(context.uri)
        ending.callback(threads.shutdown, cancel_futures=True)  # after an interruption nothing more is begun
        waiting = [(winner, threads.submit(_register, client, context, winner)) for winner in winners]
        for winner, future in waiting:
            try:
                with named_faults(context.uri, f"registering {winner.name}"):
                    version, created = future.result()
            except TrackingError as error:
                errors.append(error)
                continue
            except ModelFormatError as error:
                errors.append(TrackingError(f"{error} Or run the target's stage again."))
                continue
            done.append((version, created))
            state = "registered" if created else "was registered already"
            mae, unit = winner.result.test_mae_ensemble, unit_behind(winner.result.unit)
            measured = "" if mae is None else f"hold-out MAE {mae:.4g}{unit}, "
            write(f"{version.label}: {winner.result.label}, {measured}{state}")
    if errors:
        raise errors[0] if len(errors) == 1 else TrackingError("\n".join(map(str, errors)))
    return done


def folder_requirements(folder: Path) -> list[str]:
    """Pinned requirements, such as ``numpy==2.4.6``, of a saved ensemble or of all that a saved blend is made of."""
    info = read_info(folder)
    names = list(_ALWAYS)
    for part in [read_info(folder / name, part=True) for name in info.get("parts") or ()] or [info]:
        if Method(part["method"]).family is Family.REGRESSOR:
            names += _REGRESSORS
        if part.get("representation") in WITH_ATTRIBUTES:  # networks are read without Keras
            names += _ATTRIBUTES
    return [f"{name}=={version}" for name, version in package_versions(*names).items()]


def save_model(folder: Path, model_id: str, run_id: str, model_folder: Path, context: RunContext) -> None:
    """Write the MLflow model into a new folder: script, ensemble, crossprop's own code, signature, example."""
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    package = Path(crossprop.__file__).parent
    info = read_info(model_folder)
    outputs = [ColSpec(kind, column) for column, kind in OUTPUTS.items()]
    with tempfile.TemporaryDirectory(prefix="crossprop-code-") as scratch:
        code = Path(scratch) / package.name
        shutil.copytree(package, code, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(package / "inference" / "pyfunc_script.py"),
            artifacts={"predictor": str(model_folder)},
            code_paths=[str(code)],
            mlflow_model=Model(model_uuid=model_id, run_id=run_id, model_id=model_id),
            signature=ModelSignature(Schema([ColSpec("string", "formula")]), Schema(outputs)),
            input_example=gate_evidence(model_folder, model_id).holdout[["formula"]].head(_EXAMPLES),
            pip_requirements=folder_requirements(model_folder),
            metadata={**info, "elements": len(info["elements"]), "git_commit": context.git.commit},
        )


def _register(client: MlflowClient, context: RunContext, winner: Winner) -> tuple[VersionInfo, bool]:
    run = _run_of(client, winner, context.uri)
    model = None
    with store_lock(context.uri):
        known = _same_version(context, winner)
        if known is None:
            _remove_stale_models(client, context, winner, run.info.experiment_id)
    if known is None:
        model = _log_model(client, context, winner, run)
    with store_lock(context.uri):
        known = known or _same_version(context, winner)  # of another process, meanwhile
        if known is not None:
            number = known.version
            client.set_registered_model_alias(winner.name, CHALLENGER, number)
            if model is not None:
                _discard(client, model)
        elif model is not None:
            number = _create_version(client, context, winner, model)
        for former in client.search_runs([run.info.experiment_id], f"tags.`{WINNER_TAG}` = 'yes'"):
            client.delete_tag(former.info.run_id, WINNER_TAG)
        client.set_tag(run.info.run_id, WINNER_TAG, "yes")
    return registry.find_version(context.uri, winner.name, version=number), known is None


def _log_model(client: MlflowClient, context: RunContext, winner: Winner, run: Run) -> LoggedModel:
    """Log the winner's ensemble as an MLflow model of its run, once it repeats its predictions."""
    from mlflow.entities import LoggedModelOutput, Metric

    result = winner.result
    of = {"crossprop.study": result.study, "crossprop.target": result.target}
    model = client.create_logged_model(
        run.info.experiment_id,
        name=f"{result.target}-{result.method}",
        source_run_id=winner.run_id,
        tags={**winner.identity(context), **of, **provenance.process_tags()},
        params=run.data.params,
        model_type="crossprop ensemble",
    )
    try:
        with tempfile.TemporaryDirectory(prefix="crossprop-model-") as scratch:
            folder = Path(scratch) / "model"
            with _saving:
                # not log_model, which would upload before the check and load TensorFlow into this process
                save_model(folder, model.model_id, winner.run_id, winner.model_folder, context)
            _check(folder, winner)
            client.log_model_artifacts(model.model_id, str(folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(winner.run_id, [LoggedModelOutput(model.model_id, step=0)])
        digests = {data.dataset.name: data.dataset.digest for data in run.inputs.dataset_inputs}
        metrics = []
        for key, part in _MEASURED_ON.items():
            name = f"{result.target}.{part}"
            on = (name, digests[name]) if name in digests else (None, None)
            last = client.get_metric_history(winner.run_id, key)[-1:]  # as it is: the run gets no second one
            ids = model.model_id, *on, winner.run_id
            metrics += [Metric(key, m.value, m.timestamp, m.step, *ids) for m in last]
        client.log_batch(winner.run_id, metrics)
    except BaseException:
        _discard(client, model)
        raise
    return model


def _create_version(client: MlflowClient, context: RunContext, winner: Winner, model: LoggedModel) -> str:
    """Make a version of a logged model, the registered model with it if it is the first; all of it or nothing."""
    result = winner.result
    text = (
        f"{context.descriptions.get(result.target, result.target)}.\n\n"
        "Takes a column `formula`, returns `value, lower, upper, in_domain, note`. "
        f"`{CHALLENGER}` is the winner of the latest run; `champion` is given by a person or a gate."
    )
    tags = {"crossprop.study": result.study, "crossprop.target": result.target, "crossprop.unit": result.unit}
    first = not _versions(context, winner)
    try:
        with tolerated("RESOURCE_ALREADY_EXISTS"):
            client.create_registered_model(winner.name, tags=tags, description=text)
        version = client.create_model_version(
            winner.name,
            source=f"models:/{model.model_id}",
            run_id=winner.run_id,
            tags=winner.tags(context),
            description=describe(result),
            model_id=model.model_id,
        )
        known = json.dumps([{"name": winner.name, "version": version.version}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": known})
        client.set_registered_model_alias(winner.name, CHALLENGER, version.version)
    except BaseException:
        _discard(client, model)
        with suppress(Exception):  # the first error counts
            for own in (one for one in _versions(context, winner) if model.model_id in one.source):
                client.delete_model_version(winner.name, str(own.version))
            if first and not _versions(context, winner):  # no other process registered one meanwhile
                client.delete_registered_model(winner.name)
        raise
    return str(version.version)


def _discard(client: MlflowClient, model: LoggedModel) -> None:
    """Delete a logged model and its files, which MLflow would keep; what cannot be deleted is left to the next call."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder = local_path(model.artifact_location)
    with suppress(Exception):
        if folder is None:
            get_artifact_repository(model.artifact_location, client.tracking_uri).delete_artifacts()
        else:
            shutil.rmtree(folder.parent if folder.parent.name == model.model_id else folder)
    with suppress(Exception):
        client.delete_logged_model(model.model_id)


def _check(model: Path, winner: Winner) -> None:
    """Refuse a model that does not load in a fresh process or does not give the logged predictions."""
    rows = gate_evidence(winner.model_folder, winner.name).sample(_CHECKED)
    refused = f"The saved model of {winner.result.target!r} ({winner.result.label}) was not registered"
    try:
        repeated = predict_in_subprocess(model, rows["formula"].tolist(), _TIMEOUT_SECONDS, own_code=True)
    except PromotionError as error:
        advice = "Run the stage 'register' again if the machine was busy, else the target's stage."
        raise TrackingError(f"{refused}: {error}. {advice}") from error
    gate = repeats_predictions(rows, repeated)
    if not gate.passed:
        raise TrackingError(f"{refused}: it {gate.figure}. Run the target's stage again.")


def _run_of(client: MlflowClient, winner: Winner, uri: str) -> Run:
    """MLflow's run of the winning cell; refuses one that is missing or deleted."""
    with tolerated(*registry.ABSENT):
        run = client.get_run(winner.run_id)
        if run.info.lifecycle_stage == "active":
            return run
    raise TrackingError(
        f"Run {winner.run_id} of {winner.result.label} ({winner.result.target}) is not in {uri}: the store was "
        "moved, deleted or replaced. Put it back, point MLFLOW_TRACKING_URI at it, or record the cells again with "
        f"`dvc repro --force --single-item transfer@<shard>`, the shard of {winner.result.target}."
    )


def _versions(context: RunContext, winner: Winner) -> tuple[VersionInfo, ...]:
    try:
        return registry.find_model(context.uri, winner.name).versions
    except UnknownModelError:
        return ()


def _same_version(context: RunContext, winner: Winner) -> VersionInfo | None:
    """The version of an earlier registration of the same winner, if its files are there."""
    identity = winner.identity(context)
    for version in _versions(context, winner):
        if identity.items() <= version.tags.items():
            try:
                registry.assert_complete(context.uri, version)
            except StoreOutOfReachError:
                raise
            except TrackingError:
                continue
            return version
    return None


def _remove_stale_models(client: MlflowClient, context: RunContext, winner: Winner, experiment: str) -> None:
    """Delete logged models of the cell without a version whose process has ended: a kill left them."""
    kept = {version.model_id for version in _versions(context, winner)}
    of_cell = f"tags.`crossprop.cell` = '{winner.result.cell}'"
    for model in client.search_logged_models([experiment], of_cell):
        ended = provenance.PROCESS_TAG not in model.tags or provenance.process_is_gone(model.tags)
        if ended and model.model_id not in kept:
            _discard(client, model)


def _winner(folder: Path) -> Winner | None:
    """The winner in a target's results; ``None`` if no cell finished."""
    try:
        won, cells, runs = (read_json(folder / f"{name}.json") for name in ("winners", "cells", "runs"))
        chosen = next((CellResult.from_dict(c) for c in cells if c["cell"] == won["winner"]), None)
        run_id = next((r["run_id"] for r in runs if r["cell"] == won["winner"]), "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} holds no complete results: {error}. Run its transfer stage.") from error
    return None if chosen is None else Winner(run_id, chosen, folder / "model")
