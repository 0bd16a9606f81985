"""From challenger to champion and back, with who, when, why and the gates' figures.

An update is written as a record (a tag of the registered model) before the alias ``champion`` changes. The next
command completes or removes a record that a kill left behind: a promotion is complete or did not happen.
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from crossprop.errors import CrosspropError, PromotionError, TrackingError
from crossprop.tracking import registry
from crossprop.tracking.gates import Gate, judge
from crossprop.tracking.provenance import PROCESS_TAG, process_is_gone, process_tags, user_name
from crossprop.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelInfo
from crossprop.tracking.store import sqlite_path, store_lock, store_uri, tolerated
from crossprop.tracking.subprocess_check import TIMEOUT_SECONDS, predict_in_subprocess

if TYPE_CHECKING:
    from mlflow import MlflowClient

PENDING_TAG = "crossprop.promotion.pending"
HISTORY_TAG = "crossprop.promotion.history"
SETTLE_SECONDS = 1.0  # longer than a server takes to write a tag
ABANDONED_SECONDS = 120.0  # age of a record that is abandoned, even if its process cannot be seen from here
_HISTORY_CHARACTERS = 4_000
_LONGEST_REASON = 1_000


@dataclass(frozen=True)
class AliasUpdate:
    """A change of champion: who (``by``), when (``at``) and why; ``tags`` are kept with the new champion."""

    action: str
    name: str
    version: str
    former: str | None
    by: str
    at: str
    why: str
    tags: dict[str, str] = field(default_factory=dict)
    token: str = ""
    process: str = ""
    time: float = 0.0

    def __str__(self) -> str:
        return f"{self.by}, {self.at}: {self.why}"


@dataclass(frozen=True)
class Promotion:
    """What came of the promotion of a version, or of a rollback to it; no ``update`` if nothing was changed."""

    name: str
    version: str = ""
    former: str | None = None
    gates: tuple[Gate, ...] = ()
    update: AliasUpdate | None = None
    error: str = ""

    @property
    def failed(self) -> tuple[Gate, ...]:
        """Gates that were not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def ok(self) -> bool:
        """Whether the version is champion now, or may be."""
        return self.update is not None or not (self.failed or self.error)


def promote(
    uri: str | None,
    name: str,
    *,
    version: str | int | None = None,
    force_reason: str | None = None,
    reason: str | None = None,
    who: str | None = None,
    dry_run: bool = False,
    timeout: float = TIMEOUT_SECONDS,
    say: Callable[[str], None] = lambda line: None,
) -> Promotion:
    """Make a version, the challenger if none is named, the champion if it passes every gate.

    With a ``force_reason``, which is kept, failed gates do not count; a ``dry_run`` changes nothing. The model may take
    ``timeout`` seconds. ``say`` receives a line for every gate, and one about an interrupted promotion. A missing
    reason, or a champion that was changed meanwhile, is a ``PromotionError``: nothing was changed.
    """
    uri = store_uri(uri)
    if force_reason is not None:
        force_reason = _reason(force_reason, "--force needs a reason, which is kept with the version")
    model = registry.find_model(uri, name) if dry_run else _settled(uri, name, say)
    candidate = registry.pick_version(model, alias=CHALLENGER, version=version)
    champion = model.holder(CHAMPION)
    result = Promotion(model.name, candidate.version, champion.version if champion else None)
    if result.former == candidate.version and not dry_run:
        return result
    for gate in judge(uri, candidate, champion, partial(predict_in_subprocess, timeout=timeout)):
        result = replace(result, gates=(*result.gates, gate))
        say(str(gate))
    if dry_run or (result.failed and force_reason is None):
        return result
    why = (force_reason if result.failed else reason or force_reason) or "all gates passed"
    tags = {f"gate.{gate.key}": gate.verdict[:300] for gate in result.gates}
    tags["forced"] = str(bool(result.failed)).lower()
    return replace(result, update=_apply(uri, "promotion", model, candidate.version, why, who, tags))


def rollback(
    uri: str | None,
    name: str,
    *,
    reason: str | None = None,
    who: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Promotion:
    """Make ``previous``, or the champion before a change by hand, champion again, or raise a ``PromotionError``.

    A second rollback undoes the first; one that was interrupted is completed.
    """
    uri = store_uri(uri)
    pending = _pending(registry.find_model(uri, name).tags)
    model = _settled(uri, name, say)
    done = pending if pending and pending.action == "rollback" else None
    if done and model.aliases.get(CHAMPION) == done.version != done.former:
        return Promotion(model.name, done.version, done.former, update=done)
    back, champion, before = model.holder(PREVIOUS), model.aliases.get(CHAMPION), changed_by_hand(model)
    by_hand = f" The alias was changed by hand; before that, version {before} was champion." if before else ""
    if before and str(read_history(model)[-1]["from"]) == model.aliases.get(PREVIOUS, "None"):
        back = next((v for v in model.versions if v.version == before), back)
    if back is None or back.version == champion:
        there = f"nothing but version {champion}, the champion itself" if back else "no previous version"
        numbers = ", ".join(v.version for v in model.versions if v.version != champion)
        other = f"Promote one by its number instead: crossprop promote {model.name} --version N (there are: {numbers})."
        hint = other if numbers else f"Version {champion} is its only one."
        raise PromotionError(f"{model.name} has {there} to go back to.{by_hand} {hint}")
    if by_hand:
        say(f"{model.name}:{by_hand} Going back to version {back.version}.")
    try:
        registry.assert_complete(uri, back)
    except TrackingError as error:
        why = f"{model.name} was not rolled back: version {back.version} could not be served. {error}"
        raise PromotionError(why) from error
    update = _apply(uri, "rollback", model, back.version, reason or "rollback", who, {})
    return Promotion(model.name, back.version, update.former, update=update)


def promote_all(
    uri: str | None,
    *,
    study: str | None = None,
    reason: str | None = None,
    who: str | None = None,
    dry_run: bool = False,
    at_once: int = 2,
    timeout: float = TIMEOUT_SECONDS,
    report: Callable[[Promotion], None] = lambda promotion: None,
) -> list[Promotion]:
    """Promote every challenger that passes its gates, ``at_once`` at a time; ``report`` receives each as it ends.

    One that was rolled back is left out.
    """
    uri = store_uri(uri)

    def attempt(model: ModelInfo) -> Promotion:
        try:
            return promote(uri, model.name, reason=reason, who=who, dry_run=dry_run, timeout=timeout)
        except CrosspropError as error:
            return Promotion(model.name, error=str(error))

    done = []
    with ThreadPoolExecutor(at_once) as threads, ExitStack() as ending:
        ending.callback(threads.shutdown, cancel_futures=True)  # after an interruption nothing more is begun
        waiting = [
            threads.submit(attempt, model)
            for model in registry.all_models(uri, study)
            if model.holder(CHALLENGER)
            and not rolled_back(model)
            and (PENDING_TAG in model.tags or model.aliases.get(CHAMPION) != model.aliases[CHALLENGER])
        ]
        for future in as_completed(waiting):
            done.append(future.result())
            report(done[-1])
    return sorted(done, key=lambda promotion: promotion.name)


def read_history(model: Any) -> list[dict[str, str | None]]:
    """The last changes of champion, oldest first: when, by whom, from which version to which, why."""
    try:
        return list(json.loads(model.tags[HISTORY_TAG]))
    except (KeyError, ValueError):
        return []


def rolled_back(model: ModelInfo) -> bool:
    """Whether the last change of the champion was a rollback from the version that is still the challenger."""
    last = (read_history(model) or [{}])[-1]
    return last.get("action") == "rollback" and last.get("from") == model.aliases.get(CHALLENGER)


def changed_by_hand(model: ModelInfo) -> str | None:
    """The champion of the last recorded change, if the alias points at another version, or at none, now."""
    history = read_history(model)
    last = str(history[-1].get("to")) if history else None
    return last if last != model.aliases.get(CHAMPION) else None


def _apply(
    uri: str, action: str, model: ModelInfo, version: str, why: str, who: str | None, tags: dict[str, str]
) -> AliasUpdate:
    """Change the champion; an update that is cut off is completed or removed by the next command."""
    from mlflow.exceptions import MlflowException

    name, former, why = model.name, model.aliases.get(CHAMPION), _reason(why, "The reason is empty")
    by = (who or "").strip()[:200] or f"{user_name()}@{socket.gethostname()}"
    at = datetime.now(UTC).isoformat(timespec="seconds")
    update = AliasUpdate(action, name, version, former, by, at, why, tags)
    update = replace(update, token=uuid.uuid4().hex, process=process_tags()[PROCESS_TAG], time=time.time())
    with registry.open_registry(uri, f"changing the champion of {name}") as client, store_lock(uri):
        _settle(client, name)
        try:
            client.set_registered_model_tag(name, PENDING_TAG, json.dumps(asdict(update), ensure_ascii=False))
        except MlflowException as error:  # another process has just inserted the same tag
            if not any(word in str(error).lower() for word in ("unique", "duplicate")):
                raise
        if sqlite_path(uri) is None:  # without a lock: of several that write a record, the last one stays
            time.sleep(SETTLE_SECONDS)
        found = client.get_registered_model(name)
        pending = _pending(found.tags)
        if pending is None or pending.token != update.token:
            raise PromotionError(
                f"{name}: {pending.by if pending else 'another process'} is changing the champion. Nothing was changed "
                "by you. Look at 'crossprop models', then run again."
            )
        champion = str(found.aliases.get(CHAMPION, "none"))
        if champion != (update.former or "none"):
            client.delete_registered_model_tag(name, PENDING_TAG)
            raise PromotionError(
                f"{name}: the champion was changed from version {update.former or 'none'} to {champion} meanwhile. "
                f"Nothing was changed by you. Look at 'crossprop models {name}', then run again."
            )
        try:
            client.set_registered_model_alias(name, CHAMPION, version)
            _complete(client, update)
        except BaseException:
            with suppress(Exception):  # the first error counts; the next command tries again
                _settle(client, name, own=True)
            raise
    return update


def _settled(uri: str, name: str, say: Callable[[str], None]) -> ModelInfo:
    """The model, once an update that was cut off is completed or removed."""
    model = registry.find_model(uri, name)
    if PENDING_TAG not in model.tags:
        return model
    with registry.open_registry(uri, f"finishing the update of {model.name}") as client, store_lock(uri):
        if line := _settle(client, model.name):
            say(line)
    return registry.find_model(uri, model.name)


def _settle(client: MlflowClient, name: str, own: bool = False) -> str:
    """Complete an update whose champion has changed, else remove its record; refuse one that is under way."""
    model = client.get_registered_model(name)
    if PENDING_TAG not in model.tags:
        return ""
    update = _pending(model.tags)
    if update is None:
        client.delete_registered_model_tag(name, PENDING_TAG)
        return f"{name}: an unreadable record of an update was removed."
    gone = own or process_is_gone({PROCESS_TAG: update.process})
    if not gone and abs(time.time() - update.time) < ABANDONED_SECONDS:
        raise PromotionError(
            f"{name}: a {update.action} to version {update.version} by {update.by} is under way since {update.at}. "
            f"Nothing was changed. Run again; a record that is left behind is void after {ABANDONED_SECONDS:.0f} s."
        )
    if str(model.aliases.get(CHAMPION)) == update.version != update.former:
        _complete(client, update)
        done = "it was completed"
    else:
        client.delete_registered_model_tag(name, PENDING_TAG)
        done = "it was taken back"
    return f"{name}: the {update.action} to version {update.version} ({update}) was interrupted; {done}."


def _complete(client: MlflowClient, update: AliasUpdate) -> None:
    """Set ``previous``, write down who, when and why, then remove the record; safe to repeat."""
    name, version = update.name, update.version
    if update.former is not None:
        with tolerated(*registry.ABSENT):  # that version was deleted meanwhile
            client.set_registered_model_alias(name, PREVIOUS, update.former)
    kept = {"by": update.by, "at": update.at, "why": update.why, "former": update.former or "none"}
    for key, value in (kept | update.tags).items():
        client.set_model_version_tag(name, version, f"crossprop.{update.action}.{key}", value)
    history = read_history(client.get_registered_model(name))
    entry = {key: getattr(update, key) for key in ("at", "by", "action")}
    entry |= {"from": update.former, "to": version, "why": update.why[:200]}
    if entry not in history:
        history.append(entry)
    while len(json.dumps(history)) > _HISTORY_CHARACTERS:
        history.pop(0)
    client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(history))
    client.delete_registered_model_tag(name, PENDING_TAG)


def _pending(tags: dict[str, str]) -> AliasUpdate | None:
    try:
        return AliasUpdate(**json.loads(tags[PENDING_TAG]))
    except (KeyError, ValueError, TypeError):
        return None


def _reason(text: str, complaint: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise PromotionError(f'{complaint}. Say why in a few words, e.g. "hold-out was re-measured".')
    return text[:_LONGEST_REASON]
