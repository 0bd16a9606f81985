"""Moves the aliases ``champion`` and ``previous``: one mover at a time, and whole or not at all.

MLflow moves one alias at a time. So what is intended is written first, into a tag of the registered model that is the
claim of the one who moves, too. Whoever finds the claim of a process that ended half-way completes the move if the
champion had moved, and takes it back otherwise. Embedded stores are locked besides; for servers the claim is written,
given time to be overwritten, and read again (Fischer's mutual exclusion).
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crossprop.errors import PromotionError
from crossprop.tracking.lookup import CHAMPION, PREVIOUS
from crossprop.tracking.open_registry import open_registry
from crossprop.tracking.promotion_note import with_note
from crossprop.tracking.provenance import PROCESS_TAG, process_is_gone, process_tags
from crossprop.tracking.store import sqlite_path, store_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

MOVING_TAG = "crossprop.promotion.moving"
HISTORY_TAG = "crossprop.promotion.history"
SETTLE_SECONDS = 1.0
"""Longer than a server takes to write a tag."""
ABANDONED_SECONDS = 120.0
"""A claim so old is nobody's, even if its process cannot be seen from here."""
_HISTORY_CHARACTERS = 4_000


@dataclass(frozen=True)
class Move:
    """A change of champion.

    Attributes:
        action: ``"promotion"`` or ``"rollback"``.
        name: Registered model.
        champion: Version that becomes champion.
        former: Version that is champion, and becomes ``previous``; ``None`` if there is none.
        previous: Version that is ``previous`` now.
        by: Who.
        at: When, ISO 8601.
        why: Why.
        tags: What the new champion keeps about it, by the last part of the tag's key.
    """

    action: str
    name: str
    champion: str
    former: str | None
    previous: str | None
    by: str
    at: str
    why: str
    tags: dict[str, str] = field(default_factory=dict)


def now() -> str:
    """The present time, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def apply_move(uri: str, move: Move) -> None:
    """Move the aliases and write down who did it.

    Raises:
        PromotionError: Somebody else moved the champion meanwhile, or is about to; nothing was moved.
        TrackingError: The store failed; what was begun is completed or taken back by the next command.
    """
    with open_registry(uri, f"moving the champion of {move.name}") as client, store_lock(uri):
        settle(client, move.name)
        token = _claim(client, move, 0.0 if sqlite_path(uri) else SETTLE_SECONDS)
        champion = _aliases(client, move.name).get(CHAMPION)
        if champion != move.former:
            client.delete_registered_model_tag(move.name, MOVING_TAG)
            raise PromotionError(_conflict(client, move, champion))
        try:
            if move.former is not None:
                client.set_registered_model_alias(move.name, PREVIOUS, move.former)
            if _claim_of(client, move.name).get("token") != token:
                raise PromotionError(
                    f"{move.name}: somebody else took the move over. Nothing was moved; look, run again."
                )
            client.set_registered_model_alias(move.name, CHAMPION, move.champion)
            _complete(client, move)
        except BaseException:
            with contextlib.suppress(
                Exception
            ):  # the next command does it, then; the first error is what counts
                _settle_claim(client, move, token)
            raise


def settle_interrupted(uri: str, name: str) -> str:
    """Bring a move that was interrupted to its end; returns what was done, or an empty text.

    Raises:
        PromotionError: The one who moves is still at it.
        TrackingError: The store failed.
    """
    with open_registry(uri, f"finishing an interrupted move of {name}") as client, store_lock(uri):
        return settle(client, name)


def settle(client: MlflowClient, name: str) -> str:
    """As ``settle_interrupted``, for a caller that holds the lock."""
    claim = _claim_of(client, name)
    if not claim:
        return ""
    age = abs(time.time() - float(claim.get("time", 0.0)))
    move = _read_move(claim)
    if move is None:
        client.delete_registered_model_tag(name, MOVING_TAG)
        return f"{name}: an unreadable claim was removed."
    if not process_is_gone({PROCESS_TAG: str(claim.get("process", ""))}) and age < ABANDONED_SECONDS:
        raise PromotionError(
            f"{name}: a {move.action} to version {move.champion} by {move.by} is under way since {move.at}. Nothing "
            f"was moved. Look at 'crossprop models' and run again; a claim that is left behind is void after "
            f"{ABANDONED_SECONDS:.0f} s."
        )
    done = _settle_claim(client, move, str(claim.get("token")))
    return f"{name}: the {move.action} to version {move.champion} by {move.by} at {move.at} was interrupted; {done}."


def _settle_claim(client: MlflowClient, move: Move, token: str) -> str:
    """Complete a move whose champion has moved, else take it back."""
    if _claim_of(client, move.name).get("token") != token:
        return "somebody else settled it"
    aliases = _aliases(client, move.name)
    if aliases.get(CHAMPION) == move.champion != move.former:
        if move.former is not None and aliases.get(PREVIOUS) != move.former:
            with contextlib.suppress(Exception):  # that version was deleted meanwhile
                client.set_registered_model_alias(move.name, PREVIOUS, move.former)
        _complete(client, move)
        return "it was completed"
    if move.former is not None and aliases.get(PREVIOUS) == move.former != move.previous:
        if move.previous is None:
            client.delete_registered_model_alias(move.name, PREVIOUS)
        else:
            client.set_registered_model_alias(move.name, PREVIOUS, move.previous)
    client.delete_registered_model_tag(move.name, MOVING_TAG)
    return "it was taken back"


def _complete(client: MlflowClient, move: Move) -> None:
    """Write down who, when and why, then let go."""
    kept = {"by": move.by, "at": move.at, "why": move.why, "former": move.former or "none", **move.tags}
    for key, value in kept.items():
        client.set_model_version_tag(move.name, move.champion, f"crossprop.{move.action}.{key}", value)
    there = client.get_model_version(move.name, move.champion)
    gates = {k.removeprefix("crossprop.promotion."): v for k, v in there.tags.items() if ".gate." in k}
    about = {k: getattr(move, k) for k in ("action", "by", "at", "why", "former")}
    said = with_note(there.description, **about, tags={**gates, **move.tags})
    client.update_model_version(move.name, move.champion, said)
    entry = {"at": move.at, "by": move.by, "action": move.action, "from": move.former, "to": move.champion}
    history = [*read_history(_tags(client, move.name)), {**entry, "why": move.why[:200]}]
    while len(json.dumps(history)) > _HISTORY_CHARACTERS:
        history.pop(0)
    client.set_registered_model_tag(move.name, HISTORY_TAG, json.dumps(history))
    client.delete_registered_model_tag(move.name, MOVING_TAG)


def read_history(tags: dict[str, str]) -> list[dict[str, str | None]]:
    """The last moves of a registered model, oldest first: when, by whom, from which version to which, why."""
    try:
        entries = json.loads(tags.get(HISTORY_TAG, "[]"))
    except ValueError:
        return []
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def moved_by_hand(tags: dict[str, str], champion: str | None) -> str | None:
    """The champion of the last recorded move, where the alias points at another version now; else ``None``."""
    history = read_history(tags)
    last = str(history[-1].get("to")) if history else None
    return last if champion is not None and last != champion else None


def _claim(client: MlflowClient, move: Move, settle_seconds: float) -> str:
    from mlflow.exceptions import MlflowException

    token = uuid.uuid4().hex
    claim = {
        "token": token,
        "time": time.time(),
        "process": process_tags()[PROCESS_TAG],
        "move": asdict(move),
    }
    try:
        client.set_registered_model_tag(move.name, MOVING_TAG, json.dumps(claim))
    except MlflowException as error:  # two inserted the same tag at once
        if not any(word in str(error).lower() for word in ("unique", "duplicate")):
            raise
    if settle_seconds:
        time.sleep(settle_seconds)
    other = _claim_of(client, move.name)
    if other.get("token") != token:
        by = (other.get("move") or {}).get("by", "somebody else")
        raise PromotionError(
            f"{move.name}: {by} is moving the champion at this moment. Nothing was moved by you. Look at "
            "'crossprop models', then run again."
        )
    return token


def _claim_of(client: MlflowClient, name: str) -> dict[str, Any]:
    try:
        claim = json.loads(_tags(client, name).get(MOVING_TAG, "{}"))
    except ValueError:
        return {"token": "unreadable"}
    return claim if isinstance(claim, dict) else {"token": "unreadable"}


def _read_move(claim: dict[str, Any]) -> Move | None:
    try:
        return Move(**claim["move"])
    except (KeyError, TypeError):
        return None


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}


def _tags(client: MlflowClient, name: str) -> dict[str, str]:
    return dict(client.get_registered_model(name).tags)


def _conflict(client: MlflowClient, move: Move, champion: str | None) -> str:
    who = "by hand"
    if champion is not None:
        tags = client.get_model_version(move.name, champion).tags
        for action in ("promotion", "rollback"):
            if f"crossprop.{action}.by" in tags:
                who = f"by {tags[f'crossprop.{action}.by']} at {tags[f'crossprop.{action}.at']}"
    return (
        f"{move.name}: the champion was moved from version {move.former or 'none'} to {champion or 'none'} meanwhile, "
        f"{who}. Nothing was moved by you. Look at 'crossprop models', then run again: the comparison has to be made "
        "with the new champion."
    )
