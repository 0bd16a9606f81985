"""The model registry: a target's winner becomes a version of ``<study>.<target>`` and the challenger."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossprop.config import Params
from crossprop.errors import PromotionError, StoreError, TrackingError
from crossprop.experiments.fingerprint import data_digest
from crossprop.experiments.progress import Print, show
from crossprop.experiments.results import CellResult
from crossprop.methods import Family, Method, Representation
from crossprop.models.saved import INFO_FILE
from crossprop.paths import StudyPaths
from crossprop.tracking.clean_process import CleanPool, CleanProcess, how_many
from crossprop.tracking.gates import evidence_of
from crossprop.tracking.model_files import MODEL_FILE, local_path, predictor_in, read_mlmodel_file
from crossprop.tracking.provenance import (
    PROCESS_TAG,
    RunContext,
    installed_versions,
    open_study_context,
    process_is_gone,
    process_tags,
)
from crossprop.tracking.registry import CHALLENGER, versions_of
from crossprop.tracking.runs import FINGERPRINT_TAG, fingerprint
from crossprop.tracking.store import named_faults, open_client, store_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def identity_tags(result: CellResult, context: RunContext) -> Mapping[str, str]:
    """What makes a version the same as another: cell, data and outcome."""
    data_hash = context.data_hashes.get(result.target, "")
    return {
        "crossprop.cell": result.cell,
        "crossprop.data_hash": data_hash,
        FINGERPRINT_TAG: fingerprint(result, data_hash),
    }


def version_tags(result: CellResult, context: RunContext, predictions: pd.DataFrame) -> dict[str, str]:
    """All tags of a version; what is not known is left out."""
    tags = {
        **identity_tags(result, context),
        "crossprop.method": str(result.method),
        "crossprop.source": result.source,
        "crossprop.representation": result.representation and str(result.representation),
        "crossprop.layer": result.layer,
        "crossprop.protocol": result.protocol,
        "crossprop.unit": result.unit,
        "crossprop.git_commit": context.git.commit,
        "crossprop.git_dirty": str(context.git.dirty).lower() if context.git.commit else None,
        "crossprop.n_train": result.n_train,
        "crossprop.n_test": result.n_test,
        "crossprop.base_mae": _number(_base_mae(predictions)),
        **{f"crossprop.{k}": _number(getattr(result, k)) for k in _ERRORS},
    }
    return {key: str(value) for key, value in tags.items() if value is not None}


_OF_THE_CODE = ("crossprop.git_commit", "crossprop.git_dirty")
"""Said of the code that made the version, not of the code that looks at it later."""


def _base_mae(predictions: pd.DataFrame) -> float | None:
    """Hold-out error of the mean of the training values: what every model has to beat."""
    try:
        return evidence_of(predictions, "predictions").base_mae()
    except TrackingError:
        return None


_ERRORS = ("cv_mae_mean", "test_mae", "test_mae_low", "test_mae_high", "test_mae_ensemble")


def version_note(result: CellResult) -> str:
    """What the version is and how good, in a few sentences."""
    unit = f" {result.unit}" if result.unit else ""
    lines = [f"{result.method.notation}: {result.label}, mean of {len(result.cv_mae or ())} fold models."]
    if result.cv_mae_mean is not None:
        lines.append(f"Cross-validation MAE {result.cv_mae_mean:.4g} ± {result.cv_mae_std:.2g}{unit}.")
    if result.test_mae is not None:
        bounds = [f"{v:.4g}" for v in (result.test_mae_low, result.test_mae_high) if v is not None]
        interval = f" [{', '.join(bounds)}]" if bounds else ""
        lines.append(f"Hold-out MAE of the best fold model {result.test_mae:.4g}{interval}{unit}.")
    if result.test_mae_ensemble is not None:
        lines.append(f"Hold-out MAE of this ensemble {result.test_mae_ensemble:.4g}{unit}.")
    return "\n\n".join(lines)


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.6g}"


def add_missing_tags(client: MlflowClient, version: ModelVersion, tags: Mapping[str, str]) -> None:
    """Give a version that was registered by an older crossprop what it lacks."""
    for key, value in tags.items():
        if key not in version.tags and key not in _OF_THE_CODE:
            client.set_model_version_tag(version.name, str(version.version), key, value)


_ALWAYS = ("h5py", "mlflow", "numpy", "onnx", "onnxruntime", "pandas", "pyarrow", "pydantic", "scipy")
"""With what reads the evidence and finds the nearest compositions."""
_REGRESSORS = ("scikit-learn", "skops")
_NETWORKS = {"tensorflow": ("keras", "tensorflow"), "jax": ("keras", "jax"), "torch": ("keras", "torch")}
_ATTRIBUTES = ("matminer", "pymatgen")
_FROM_NETWORKS = (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES)
_WITH_ATTRIBUTES = (
    Representation.PHYSICAL_ATTRIBUTES,
    Representation.COMBINED,
    Representation.PREDICTED_SOURCES,
)


def folder_requirements(folder: Path, keras_backend: str = "tensorflow") -> list[str]:
    """Pinned requirements of a saved ensemble, or of all ensembles that a saved blend is made of."""
    info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    parts = [
        json.loads((folder / p / "model.json").read_text(encoding="utf-8")) for p in info.get("parts", ())
    ]
    lines = [model_requirements(part, keras_backend) for part in parts or [info]]
    return list(dict.fromkeys(line for part in lines for line in part))


def model_requirements(info: Mapping[str, Any], keras_backend: str = "tensorflow") -> list[str]:
    """Pinned requirements of a saved model; crossprop's own code travels inside the model.

    Args:
        info: Content of ``model.json``.
        keras_backend: Backend that its networks run on.

    Returns:
        Lines such as ``numpy==2.4.6``, of what is installed here.
    """
    method = Method(info["method"])
    names = list(_ALWAYS)
    if method.family is Family.REGRESSOR:
        names += _REGRESSORS
    representation = info.get("representation")
    if method.family is Family.NETWORK or representation in _FROM_NETWORKS:
        names += _NETWORKS.get(keras_backend, _NETWORKS["tensorflow"])
    if representation in _WITH_ATTRIBUTES:
        names += _ATTRIBUTES
    return [f"{name}=={version}" for name, version in installed_versions(tuple(names)).items()]


_EXAMPLES = 5
_CHECKED = 50
_TOLERANCE = 1e-3
"""Largest difference between a logged and a reloaded prediction, as a share of the predictions' spread."""


def save_model(
    folder: Path,
    model_id: str,
    run_id: str,
    model_folder: Path,
    predictions: pd.DataFrame,
    context: RunContext,
) -> None:
    """Write the MLflow model into a new folder: script, ensemble, crossprop's own code, signature, example.

    Args:
        folder: Where to; must not exist.
        model_id: MLflow's id of the logged model that it becomes.
        run_id: Run that it belongs to.
        model_folder: Saved ensemble.
        predictions: The cell's predictions: the input example is taken from its hold-out.
        context: Tells the git commit.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    import crossprop

    package = Path(crossprop.__file__).parent
    info = json.loads((model_folder / "model.json").read_text(encoding="utf-8"))
    outputs = [ColSpec("double", c) for c in ("value", "lower", "upper")]
    outputs += [ColSpec("boolean", "in_domain"), ColSpec("string", "note")]
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
            input_example=_sample(predictions, _EXAMPLES)[["formula"]],
            pip_requirements=folder_requirements(model_folder, os.environ.get("KERAS_BACKEND", "tensorflow")),
            metadata={**info, "elements": len(info["elements"]), "git_commit": context.git.commit},
        )


def check_model(folder: Path, result: CellResult, predictions: pd.DataFrame, process: CleanProcess) -> None:
    """Refuse a model that does not load in a clean process or does not give the logged predictions back.

    Args:
        folder: The MLflow model.
        result: Its cell.
        predictions: The cell's predictions.
        process: Where it is loaded, with the code that lies in the folder.

    Raises:
        TrackingError: The message names the formula and both values, or says why it does not load.
    """
    sample = _sample(predictions, _CHECKED)
    try:
        got = process.predict_as_mlflow(folder, sample["formula"].tolist())
    except PromotionError as error:
        raise TrackingError(
            f"The saved model of {result.target!r} ({result.label}) was not registered: {error}. Run the stage "
            "'register' again if the machine was busy or out of memory, else the target's stage."
        ) from error
    wanted = sample["y_pred_ensemble"].to_numpy(dtype=float)
    spread = max(float(np.ptp(predictions["y_true"])), float(np.abs(wanted).max()), 1e-12)
    worst = int(np.argmax(np.abs(got - wanted)))
    formula = sample["formula"].iloc[worst]
    if not abs(got[worst] - wanted[worst]) <= _TOLERANCE * spread:
        raise TrackingError(
            f"The saved model of {result.target!r} gives {got[worst]:.6g} for {formula!r}, where "
            f"{wanted[worst]:.6g} was logged ({result.label}). It was not registered: its files and its "
            "results are not of the same training. Run the target's stage again."
        )


def _sample(predictions: pd.DataFrame, n: int) -> pd.DataFrame:
    rows = predictions[(predictions["split"] == "test") & predictions["y_pred_ensemble"].notna()]
    if not len(rows):
        raise TrackingError(
            "The winner has no hold-out predictions, so its model cannot be checked. Run its stage again."
        )
    return rows.head(n).reset_index(drop=True)


FILES_TAG = "crossprop.files"
_UPGRADED = ("format", "interval", "domain")
"""What of ``model.json`` changes where evidence is added to a saved ensemble or computed anew."""


def files_digest(folder: Path) -> str:
    """Digest of a saved ensemble's file names and of its description: another if evidence is added or made anew.

    The fitted models themselves are not read: what they were fitted from is the version's identity already, and
    their files hold times of writing.

    Raises:
        TrackingError: The folder is no saved ensemble.
    """
    said = json.dumps(_info(folder), sort_keys=True)
    return hashlib.sha256("\0".join([*_names(folder), said]).encode()).hexdigest()[:16]


def holds_files(client: MlflowClient, version: ModelVersion, model_id: str, folder: Path) -> bool:
    """Whether a version's files are there and those of the folder.

    Args:
        client: Of the store.
        version: The version.
        model_id: Its logged model.
        folder: Saved ensemble.

    Raises:
        MlflowException: The store does not answer.
    """
    from mlflow.exceptions import MlflowException

    try:
        address = str(client.get_logged_model(model_id).artifact_location)
        location = local_path(address)
        digest, label = version.tags.get(FILES_TAG), f"{version.name} version {version.version}"
        if location is not None:
            there = predictor_in(location, label)
            if digest is None:
                digest = files_digest(there)
            return digest == files_digest(folder) and set(_names(folder)) <= set(_names(there))
        if digest is not None:
            return digest == files_digest(folder) and bool(client.list_logged_model_artifacts(model_id))
        return _described_alike(_remote_metadata(client, address, label), _info(folder))
    except TrackingError:
        return False
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            raise
        return False


def _remote_metadata(client: MlflowClient, address: str, label: str) -> dict[str, Any]:
    """What ``MLmodel`` repeats of ``model.json``; read for versions of an older crossprop only."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory(prefix="crossprop-mlmodel-") as scratch:
        path = download_artifacts(
            artifact_uri=f"{address.rstrip('/')}/{MODEL_FILE}",
            dst_path=scratch,
            tracking_uri=client.tracking_uri,
        )
        return read_mlmodel_file(Path(path), label).get("metadata") or {}


def _described_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in _UPGRADED)


def _info(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / INFO_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TrackingError(
            f"{folder / INFO_FILE} is missing or cannot be read: {error}. Run the target's stage again."
        ) from error


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


_STORE_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Winner:
    """What is to be registered.

    Attributes:
        run_id: Run of the winning cell.
        result: The winning cell.
        model_folder: Saved ensemble (``model.json`` and its members).
        predictions: The cell's predictions, columns as in ``CellOutcome.predictions``.
    """

    run_id: str
    result: CellResult
    model_folder: Path
    predictions: pd.DataFrame

    @property
    def name(self) -> str:
        """Name of the registered model, ``<study>.<target>``."""
        return f"{self.result.study}.{self.result.target}"

    def tags(self, context: RunContext) -> dict[str, str]:
        """Tags of its version."""
        tags = version_tags(self.result, context, self.predictions)
        return {**tags, FILES_TAG: files_digest(self.model_folder)}


@dataclass(frozen=True)
class VersionDraft:
    """A logged model that is no version yet; a killed process leaves it behind, and the next one removes it.

    Attributes:
        winner: What it is made of.
        model_id: MLflow's id of the logged model.
        folder: Folder of the MLflow model, on this machine until it is published or discarded.
    """

    winner: Winner
    model_id: str
    folder: Path

    def check(self, process: CleanProcess) -> None:
        """Load it in a clean process; it has to give the logged predictions.

        Raises:
            TrackingError: It cannot be loaded, or gives others; the message says which.
        """
        check_model(self.folder, self.winner.result, self.winner.predictions, process)

    def upload(self, client: MlflowClient) -> None:
        """Bring the files to the store."""
        from mlflow.entities import LoggedModelOutput

        client.log_model_artifacts(self.model_id, str(self.folder))
        client.finalize_logged_model(self.model_id, "READY")
        client.log_outputs(self.winner.run_id, [LoggedModelOutput(self.model_id, step=0)])
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def publish(self, client: MlflowClient, context: RunContext) -> ModelVersion:
        """Make the version: it is there with all its tags, or not at all."""
        with _ambient_store(context.uri):
            return client.create_model_version(
                self.winner.name,
                source=f"models:/{self.model_id}",
                run_id=self.winner.run_id,
                tags=self.winner.tags(context),
                description=version_note(self.winner.result),
                model_id=self.model_id,
            )

    def discard(self, client: MlflowClient) -> None:
        """Take the logged model back."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        client.delete_logged_model(self.model_id)


def draft_version(client: MlflowClient, run: Any, winner: Winner, context: RunContext) -> VersionDraft:
    """Write the MLflow model into a temporary folder, under the name that the store gives it.

    Args:
        client: Of the store.
        run: MLflow's run of the winning cell.
        winner: What is to be registered.
        context: As for the recorder.
    """
    result = winner.result
    of = {"crossprop.study": result.study, "crossprop.target": result.target}
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=f"{result.target}-{result.method}",
        source_run_id=winner.run_id,
        tags={**identity_tags(result, context), **of, **process_tags()},
        params=run.data.params,
        model_type="crossprop ensemble",
    )
    scratch = Path(tempfile.mkdtemp(prefix="crossprop-model-"))
    draft = VersionDraft(winner, str(logged.model_id), scratch / "model")
    try:
        save_model(
            draft.folder, draft.model_id, winner.run_id, winner.model_folder, winner.predictions, context
        )
    except BaseException:
        draft.discard(client)
        raise
    return draft


def remove_leftovers(client: MlflowClient, experiment_id: str, cell: str, kept: set[str]) -> None:
    """Delete logged models of the cell that no version refers to and nobody works on: a kill left them."""
    for model in client.search_logged_models([experiment_id], f"tags.`crossprop.cell` = '{cell}'"):
        tags: Mapping[str, str] = model.tags
        if model.model_id not in kept and (PROCESS_TAG not in tags or process_is_gone(tags)):
            client.delete_logged_model(model.model_id)


def run_of(client: MlflowClient, winner: Winner, uri: str) -> Any:
    """MLflow's run of the winning cell.

    Raises:
        TrackingError: It is missing or deleted.
    """
    from mlflow.exceptions import MlflowException

    missing = TrackingError(
        f"Run {winner.run_id} of {winner.result.label} ({winner.result.target}) is not in {uri}: the store was moved, "
        "deleted or replaced. Put it back, point MLFLOW_TRACKING_URI at it, or record the cells anew with `dvc repro "
        f"--force --single-item transfer@<shard>`, the shard of {winner.result.target} (finished cells are not "
        "computed again)."
    )
    try:
        run = client.get_run(winner.run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise missing from error
    if run.info.lifecycle_stage != "active":
        raise missing
    return run


@contextmanager
def _ambient_store(uri: str) -> Iterator[None]:
    """MLflow's registry looks a logged model up in the environment's store, whatever store its client is of."""
    import mlflow

    kept = os.environ.get(_STORE_VARIABLE)
    os.environ[_STORE_VARIABLE] = uri
    chosen = mlflow.get_tracking_uri()
    try:
        if chosen != uri:
            mlflow.set_tracking_uri(uri)
        yield
    finally:
        if chosen != uri:
            mlflow.set_tracking_uri(chosen)
        os.environ.pop(_STORE_VARIABLE, None)
        if kept is not None:
            os.environ[_STORE_VARIABLE] = kept


_PATIENCE_SECONDS = 1_200.0
"""For one model to load and answer: long, since other work may take the machine's cores and memory meanwhile."""


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry.

    Attributes:
        name: Registered model, ``<study>.<target>``.
        version: Number of the version.
        model_id: MLflow's id of the logged model.
        run_id: Run that it belongs to.
        created: Whether this call made it (otherwise it was there).
    """

    name: str
    version: str
    model_id: str
    run_id: str
    created: bool

    @property
    def uri(self) -> str:
        """What ``mlflow.pyfunc.load_model`` takes."""
        return f"models:/{self.name}@{CHALLENGER}"


def register_winner(
    context: RunContext, *, run_id: str, result: CellResult, model_folder: Path, predictions: pd.DataFrame
) -> RegisteredVersion:
    """As ``register_winners``, for one."""
    winner = Winner(run_id, result, model_folder, predictions)
    (version,) = register_winners(context, [winner], at_once=1)
    return version


def register_winners(
    context: RunContext,
    winners: Iterable[Winner],
    *,
    at_once: int | None = None,
    report: Callable[[Winner, RegisteredVersion], None] = lambda winner, version: None,
) -> list[RegisteredVersion]:
    """Register winners and give each the alias ``challenger``; promotion is somebody else's decision.

    Every model is loaded in a clean process before it is registered, with nothing but the code that it carries, and
    must give the logged predictions; while some are checked, the next are written. The same cell with the same data,
    outcome and files is registered once; where the files of its version are gone, or are not those of the folder,
    there is a further version.

    Args:
        context: As for the recorder.
        winners: One or more, of different targets; taken one after the other.
        at_once: How many models are checked at the same time; as many as the machine has room for if not given.
        report: Receives every version as it is there.

    Raises:
        TrackingError: A run is missing, a saved model does not load or gives other predictions, or the store refuses.
            What could be registered is.
    """
    client = open_client(context.uri)
    versions: dict[str, RegisteredVersion] = {}
    refused: list[TrackingError] = []
    under_way: deque[tuple[VersionDraft, Future[None]]] = deque()
    n = at_once or how_many()

    def done(winner: Winner, version: RegisteredVersion) -> None:
        versions[winner.name] = version
        report(winner, version)

    def finish(draft: VersionDraft, checked: Future[None]) -> None:
        try:
            checked.result()
        except TrackingError as error:
            refused.append(error)
            draft.discard(client)
            return
        done(draft.winner, _publish(client, context, draft))

    names = []
    with CleanPool(n, _PATIENCE_SECONDS) as pool:
        try:
            for winner in winners:
                names.append(winner.name)
                with named_faults(context.uri, f"registering {winner.name}"):
                    found = _there_already(client, context, winner)
                    if found is not None:
                        done(winner, found)
                        continue
                    if len(under_way) > n:
                        finish(*under_way.popleft())
                    draft = draft_version(client, run_of(client, winner, context.uri), winner, context)
                    under_way.append((draft, pool.submit(draft.check)))
            while under_way:
                with named_faults(context.uri, f"registering {under_way[0][0].winner.name}"):
                    finish(*under_way.popleft())
        finally:
            for draft, _ in under_way:
                with suppress(Exception):  # the first error is what counts; the next registration removes it
                    draft.discard(client)
    if refused:
        raise refused[0] if len(refused) == 1 else TrackingError("\n".join(map(str, refused)))
    return [versions[name] for name in names]


def _there_already(client: MlflowClient, context: RunContext, winner: Winner) -> RegisteredVersion | None:
    """The version of an earlier registration, made challenger; else the way is cleared for a new one."""
    with store_lock(context.uri):
        run = run_of(client, winner, context.uri)
        _ensure_registered_model(client, winner, context)
        versions = versions_of(client, winner.name)
        same = _same_version(client, context, winner, versions)
        if same is None:
            kept = {_model_id(v) for v in versions}
            remove_leftovers(client, run.info.experiment_id, winner.result.cell, kept)
            return None
        return _challenge(client, context, winner, same, created=False)


def _publish(client: MlflowClient, context: RunContext, draft: VersionDraft) -> RegisteredVersion:
    """Make a checked draft a version, unless somebody else registered the same meanwhile."""
    winner = draft.winner
    try:
        draft.upload(client)
        with store_lock(context.uri):
            versions = versions_of(client, winner.name)
            same = _same_version(client, context, winner, versions)
            if same is None:
                made = draft.publish(client, context)
                return _challenge(client, context, winner, made, created=True)
            draft.discard(client)
            return _challenge(client, context, winner, same, created=False)
    except BaseException:
        with suppress(Exception):  # the first error is what counts; the next registration removes it
            if not _is_published(client, draft):
                draft.discard(client)
        raise


def _is_published(client: MlflowClient, draft: VersionDraft) -> bool:
    return any(_model_id(version) == draft.model_id for version in versions_of(client, draft.winner.name))


def _same_version(
    client: MlflowClient, context: RunContext, winner: Winner, versions: list[ModelVersion]
) -> ModelVersion | None:
    identity = identity_tags(winner.result, context)
    same = [v for v in versions if identity.items() <= v.tags.items()]
    return next((v for v in same if holds_files(client, v, _model_id(v), winner.model_folder)), None)


def _challenge(
    client: MlflowClient, context: RunContext, winner: Winner, version: ModelVersion, *, created: bool
) -> RegisteredVersion:
    if not created:
        add_missing_tags(client, version, winner.tags(context))
    client.set_registered_model_alias(winner.name, CHALLENGER, version.version)
    return RegisteredVersion(
        winner.name, str(version.version), _model_id(version), str(version.run_id), created
    )


def _ensure_registered_model(client: MlflowClient, winner: Winner, context: RunContext) -> None:
    from mlflow.exceptions import MlflowException

    result = winner.result
    what = context.descriptions.get(result.target, result.target)
    unit = result.unit or "none (dimensionless)"
    text = (
        f"{what}. Unit: {unit}.\n\nTakes a column `formula`, returns `value, lower, upper, in_domain, note`. "
        f"`{CHALLENGER}` is the winner of the latest run; `champion` is given by a person or a gate."
    )
    tags = {"crossprop.study": result.study, "crossprop.target": result.target, "crossprop.unit": result.unit}
    try:
        client.create_registered_model(winner.name, tags=tags, description=text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _model_id(version: ModelVersion) -> str:
    """Logged model behind a version; SQL registries leave the version's own ``model_id`` empty."""
    return str(version.model_id or str(version.source).removeprefix("models:/"))


def register_study(params: Params, paths: StudyPaths, write: Print = show) -> list[RegisteredVersion]:
    """Register all winners and list them in the study's list of registered versions.

    Raises:
        StoreError: A target's results are missing or damaged.
        TrackingError: The store or the registry refuses.
    """
    hashes = {t: data_digest(pd.read_parquet(paths.prepared(t))) for t in params.study.targets}
    context = open_study_context(params, paths, hashes)

    def winners() -> Iterator[Winner]:
        for target in params.study.targets:
            folder = paths.results(target)
            winner, run_id = _winner(folder)
            if winner is None:
                write(f"{target}: no cell finished, nothing to register")
                continue
            predictions = pd.read_parquet(folder / "predictions.parquet")
            own = predictions[predictions["cell"] == winner.cell].drop(columns="cell")
            yield Winner(run_id, winner, folder / "model", own)

    def told(winner: Winner, version: RegisteredVersion) -> None:
        state = "registered" if version.created else "was registered already"
        write(f"{version.name} version {version.version}: {winner.result.label}, {state}")

    versions = register_winners(context, winners(), report=told)
    listed = [{"name": v.name, "version": v.version, "run_id": v.run_id, "uri": v.uri} for v in versions]
    paths.registry.parent.mkdir(parents=True, exist_ok=True)
    paths.registry.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    return versions


def _winner(folder: Path) -> tuple[CellResult | None, str]:
    try:
        winner = json.loads((folder / "winners.json").read_text(encoding="utf-8"))["winner"]
        cells = [
            CellResult.from_dict(c) for c in json.loads((folder / "cells.json").read_text(encoding="utf-8"))
        ]
        runs = {
            r["cell"]: r["run_id"] for r in json.loads((folder / "runs.json").read_text(encoding="utf-8"))
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder} holds no complete results: {error}. Run its transfer stage.") from error
    chosen = next((cell for cell in cells if cell.cell == winner), None)
    return chosen, runs.get(winner, "")
