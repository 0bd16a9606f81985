"""The model registry: a target's winner becomes a version of ``<study>.<target>`` and the challenger."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from crossprop.errors import TrackingError
from crossprop.experiments.results import CellResult
from crossprop.tracking.clean_pool import CleanPool, how_many
from crossprop.tracking.context import RunContext
from crossprop.tracking.faults import named_faults
from crossprop.tracking.lookup import CHALLENGER, versions_of
from crossprop.tracking.same_files import holds_files
from crossprop.tracking.store import open_client, store_lock
from crossprop.tracking.version_draft import VersionDraft, Winner, draft_version, remove_leftovers, run_of
from crossprop.tracking.version_tags import add_missing_tags, identity_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["RegisteredVersion", "Winner", "register_winner", "register_winners"]

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
