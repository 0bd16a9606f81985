"""From challenger to champion, and back: a gate's or a person's decision, with who, when and why."""

from __future__ import annotations

import contextlib
import getpass
import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from crossprop.errors import CrosspropError, PromotionError, TrackingError
from crossprop.tracking.clean_process import PATIENCE_SECONDS, CleanPool, CleanProcess
from crossprop.tracking.client import ModelInfo, VersionInfo, open_registry
from crossprop.tracking.gates import Gate, judge
from crossprop.tracking.model_files import assert_whole
from crossprop.tracking.provenance import PROCESS_TAG, process_is_gone, process_tags
from crossprop.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS, all_models, find_model, pick_version
from crossprop.tracking.store import sqlite_path, store_lock, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.table import Table

_HEADING = "#### As champion"
_MOST_CHARACTERS = 4_900
"""MLflow keeps 5,000 of a description."""
_TITLES = {"promotion": "Promoted", "rollback": "Brought back"}


def with_note(
    description: str | None,
    *,
    action: str,
    by: str,
    at: str,
    why: str,
    former: str | None,
    tags: Mapping[str, str],
) -> str:
    """A version's description with the note of its last promotion or rollback; an earlier note is replaced.

    Args:
        description: What is there; what people wrote before the note is kept.
        action: ``"promotion"`` or ``"rollback"``.
        by: Who.
        at: When, ISO 8601.
        why: Why.
        former: Version that was champion before.
        tags: What the version keeps of it; the gates by ``gate.<key>``.
    """
    own = (description or "").split(_HEADING)[0].rstrip()
    forced = ", in spite of failed gates" if tags.get("forced") == "true" else ""
    before = f"Version {former} was champion before." if former else "It is the first champion."
    note = f"{_HEADING}\n\n{_TITLES.get(action, action)} {at} by {by}{forced}: {_plain(why)}. {before}"
    gates = [
        f"- {key.removeprefix('gate.')}: {_plain(text)}"
        for key, text in tags.items()
        if key.startswith("gate.")
    ]
    for shown in ("\n\n".join([note, "\n".join(gates)]) if gates else note, note):
        whole = f"{own}\n\n{shown}".strip()
        if len(whole) <= _MOST_CHARACTERS:
            return whole
    return description or ""


def _plain(text: str) -> str:
    """Text that markdown shows as it is."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|" else c for c in text)


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


_LONGEST_REASON = 1_000


@dataclass(frozen=True)
class Promotion:
    """What came of a promotion or a rollback.

    Attributes:
        name: Registered model.
        version: Version that was to become champion.
        former: Version that was champion before; ``None`` if there was none.
        moved: Whether the alias was moved by this call.
        gates: All gates, in order; none for a rollback and for a version that is champion already.
        forced: Whether it was moved in spite of failed gates.
        by: Who.
        at: When, ISO 8601.
        why: The reason that is kept.
    """

    name: str
    version: str
    former: str | None
    moved: bool
    gates: tuple[Gate, ...] = ()
    forced: bool = False
    by: str = ""
    at: str = ""
    why: str = ""

    @property
    def failed(self) -> tuple[Gate, ...]:
        """Gates that were not passed."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def passed(self) -> bool:
        """Whether no gate failed."""
        return not self.failed


def promote(
    uri: str | None,
    name: str,
    *,
    version: str | int | None = None,
    force_reason: str | None = None,
    reason: str | None = None,
    who: str | None = None,
    dry_run: bool = False,
    process: CleanProcess | None = None,
    report: Callable[[Gate], None] = lambda gate: None,
    say: Callable[[str], None] = lambda line: None,
) -> Promotion:
    """Make a version the champion if it passes every gate; the former champion becomes ``previous``.

    Args:
        uri: Store; that of the environment or the working folder if none is named.
        name: Registered model ``<study>.<target>``, or the target if only one study has it.
        version: Which version; the challenger if none is named.
        force_reason: Promote in spite of failed gates, for this reason, which is kept.
        reason: Why, kept with the version.
        who: Who decides; user and machine if not named.
        dry_run: Judge, and leave everything as it is.
        process: Where models are loaded; one of its own if none is given.
        report: Receives every gate as it is judged.
        say: Receives a line about an earlier promotion that was interrupted.

    Returns:
        The gates, and whether the alias was moved: it is not where a gate failed.

    Raises:
        UnknownModelError: No such model or version, or no challenger.
        PromotionError: The reason is missing, or somebody else moved the champion meanwhile; nothing was moved.
        TrackingError: The store failed.
    """
    uri = uri or store_uri()
    if force_reason is not None:
        force_reason = _reason(force_reason, "--force needs a reason, which is kept with the version")
    model = _settled(uri, name, say) if not dry_run else find_model(uri, name)
    candidate = pick_version(model, alias=CHALLENGER, version=version)
    champion = model.holder(CHAMPION)
    if champion is not None and champion.version == candidate.version and not dry_run:
        return Promotion(model.name, candidate.version, candidate.version, moved=False)
    own = CleanProcess() if process is None else process
    try:
        judged = tuple(judge(uri, candidate, champion, own, report))
    finally:
        if process is None:
            own.close()
    result = Promotion(model.name, candidate.version, champion.version if champion else None, False, judged)
    if dry_run or (result.failed and force_reason is None):
        return result
    forced = bool(result.failed)
    why = force_reason if forced and force_reason else reason or force_reason or "all gates passed"
    move = _move("promotion", model, candidate.version, why, who)
    move.tags.update({f"gate.{gate.key}": _gate_text(gate) for gate in judged})
    move.tags["forced"] = str(forced).lower()
    apply_move(uri, move)
    return Promotion(
        model.name, candidate.version, result.former, True, judged, forced, move.by, move.at, move.why
    )


def rollback(
    uri: str | None,
    name: str,
    *,
    reason: str | None = None,
    who: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Promotion:
    """Make ``previous`` the champion again, and the champion ``previous``: a second rollback undoes the first.

    Where the alias was moved by hand since, it goes back to the version that was champion before that.

    Args:
        uri: Store; that of the environment or the working folder if none is named.
        name: Registered model or target.
        reason: Why, kept with the version.
        who: Who decides; user and machine if not named.
        say: As for ``promote``.

    Raises:
        UnknownModelError: No such model.
        PromotionError: There is no previous version, its files are gone, or somebody else moved the champion
            meanwhile; nothing was moved.
        TrackingError: The store failed.
    """
    uri = uri or store_uri()
    model = _settled(uri, name, say)
    back, champion = _way_back(model), model.holder(CHAMPION)
    if back is None or (champion is not None and back.version == champion.version):
        there = (
            "no previous version"
            if back is None
            else f"nothing but version {back.version}, the champion itself"
        )
        numbers = ", ".join(v.version for v in model.versions)
        raise PromotionError(
            f"{model.name} has {there} to go back to.{_by_hand(model)} Promote a version by its number instead: "
            f"crossprop promote {model.name} --version N (there are: {numbers})."
        )
    if by_hand := _by_hand(model):
        say(f"{model.name}:{by_hand} Going back to version {back.version}.")
    try:
        assert_whole(uri, back)
    except PromotionError:
        raise
    except TrackingError as error:
        raise PromotionError(
            f"{model.name} was not rolled back: version {back.version} could not be served. {error}"
        ) from error
    move = _move("rollback", model, back.version, reason or "rollback", who)
    apply_move(uri, move)
    return Promotion(model.name, back.version, move.former, True, by=move.by, at=move.at, why=move.why)


def _way_back(model: ModelInfo) -> VersionInfo | None:
    """The version that was champion before: by the alias, or by the record where the champion was moved by hand."""
    previous, before = model.holder(PREVIOUS), moved_by_hand(model.tags, model.aliases.get(CHAMPION))
    if before is not None and str(read_history(model.tags)[-1].get("from")) == model.aliases.get(
        PREVIOUS, "None"
    ):
        return next((v for v in model.versions if v.version == before), previous)
    return previous


def _by_hand(model: ModelInfo) -> str:
    before = moved_by_hand(model.tags, model.aliases.get(CHAMPION))
    return (
        "" if before is None else f" The alias was moved by hand; before that, version {before} was champion."
    )


def _settled(uri: str, name: str, say: Callable[[str], None]) -> ModelInfo:
    """The model, once a move that was interrupted is completed or taken back."""
    model = find_model(uri, name)
    if MOVING_TAG not in model.tags:
        return model
    if line := settle_interrupted(uri, model.name):
        say(line)
    return find_model(uri, model.name)


def _move(action: str, model: ModelInfo, version: str, why: str, who: str | None) -> Move:
    return Move(
        action=action,
        name=model.name,
        champion=version,
        former=model.aliases.get(CHAMPION),
        previous=model.aliases.get(PREVIOUS),
        by=(who or "").strip()[:200] or _whoami(),
        at=now(),
        why=_reason(why, "The reason is empty"),
    )


def _gate_text(gate: Gate) -> str:
    return f"{'pass' if gate.passed else 'failed' if gate.measured else 'no evidence'}: {gate.figure}"[:400]


def _reason(text: str, complaint: str) -> str:
    text = " ".join(text.split())
    if not text:
        raise PromotionError(f'{complaint}. Say why in a few words, e.g. "hold-out was re-measured".')
    return text[:_LONGEST_REASON]


def _whoami() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True)
class Attempt:
    """What came of one target.

    Attributes:
        name: Registered model.
        promotion: The gates, and whether it was moved; ``None`` where it could not be tried.
        error: Why not.
    """

    name: str
    promotion: Promotion | None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the challenger is champion now, or would be if this were not a dry run."""
        return self.promotion is not None and (self.promotion.moved or self.promotion.passed)


def promote_all(
    uri: str | None,
    *,
    study: str | None = None,
    reason: str | None = None,
    who: str | None = None,
    dry_run: bool = False,
    at_once: int = 2,
    patience: float = PATIENCE_SECONDS,
    report: Callable[[Attempt], None] = lambda attempt: None,
) -> list[Attempt]:
    """Promote every challenger that passes its gates; one that fails does not stop the others.

    A clean process is shared by several models, one after the other.

    Args:
        uri: Store; that of the environment or the working folder if none is named.
        study: Only this study's targets.
        reason: Why, kept with every version.
        who: Who decides.
        dry_run: Judge, and leave everything as it is.
        at_once: How many models are loaded at the same time.
        patience: Seconds that one model may take.
        report: Receives every attempt as it ends.

    Returns:
        One attempt per target with a challenger that is not champion yet, by name.

    Raises:
        TrackingError: The registry does not answer at all.
    """
    uri = uri or store_uri()
    names = [
        model.name
        for model in all_models(uri, study)
        if model.holder(CHALLENGER) and model.aliases.get(CHAMPION) != model.aliases[CHALLENGER]
    ]
    attempts = []

    def attempt(name: str, process: CleanProcess) -> Attempt:
        try:
            made = promote(uri, name, reason=reason, who=who, dry_run=dry_run, process=process)
        except CrosspropError as error:
            return Attempt(name, None, str(error))
        return Attempt(name, made)

    with CleanPool(max(1, min(at_once, len(names))), patience) as pool:
        for future in as_completed([pool.submit(partial(attempt, name)) for name in names]):
            attempts.append(future.result())
            report(attempts[-1])
    return sorted(attempts, key=lambda a: a.name)


def overview_rows(models: list[ModelInfo]) -> list[dict[str, Any]]:
    """Plain values of every model, for JSON: versions by alias, errors, times, whether the challenger is better."""
    return [_row(model) for model in models]


def overview_table(models: list[ModelInfo], at: datetime | None = None) -> Table:
    """A table for a terminal.

    Args:
        models: As ``lookup.all_models`` returns them. The age is the champion's, or else the challenger's.
        at: The time from which ages are counted; now if not given.
    """
    from rich.markup import escape
    from rich.table import Table

    at = at or datetime.now(UTC)
    several = len({model.study for model in models}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("target", overflow="fold")
    for title in ("champion", "challenger"):
        table.add_column(title)
        table.add_column("MAE", justify="right")
    table.add_column("unit")
    table.add_column("challenger is")
    table.add_column("previous")
    table.add_column("age", justify="right")
    for model in models:
        champion, challenger, previous = (model.holder(a) for a in (CHAMPION, CHALLENGER, PREVIOUS))
        table.add_row(
            escape(model.name if several else model.target),
            _short(champion),
            _error(champion),
            *(("=", "") if champion and champion == challenger else (_short(challenger), _error(challenger))),
            "" if model.unit == "1" else escape(model.unit),
            _standing(champion, challenger),
            f"v{previous.version}" if previous else "–",
            age(_since(holder), at) if (holder := champion or challenger) else "–",
        )
    return table


def age(since: datetime, at: datetime) -> str:
    """How long ago, in its largest whole unit, e.g. ``"3 d"``."""
    seconds = max(0.0, (at - since).total_seconds())
    for size, name in ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{int(seconds)} s"


def _row(model: ModelInfo) -> dict[str, Any]:
    champion, challenger, previous = (model.holder(a) for a in (CHAMPION, CHALLENGER, PREVIOUS))
    better = None
    if champion and challenger and champion.holdout_mae is not None and challenger.holdout_mae is not None:
        better = challenger.holdout_mae < champion.holdout_mae
    return {
        "name": model.name,
        "study": model.study,
        "target": model.target,
        "unit": model.unit,
        "champion": _details(champion),
        "challenger": _details(challenger),
        "previous": _details(previous),
        "challenger_has_lower_mae": better,
        "champion_moved_by_hand": moved_by_hand(model.tags, model.aliases.get(CHAMPION)) is not None,
        "versions": [v.version for v in model.versions],
    }


def _details(version: VersionInfo | None) -> dict[str, Any] | None:
    if version is None:
        return None
    promoted = {
        key: version.tags[f"crossprop.{action}.{key}"]
        for action in ("promotion",)
        for key in ("by", "at", "why", "forced")
        if f"crossprop.{action}.{key}" in version.tags
    }
    return {
        "version": version.version,
        "method": version.method,
        "holdout_mae": version.holdout_mae,
        "base_mae": version.number("base_mae"),
        "holdout_rows": _whole(version.number("n_test")),
        "created": version.created.isoformat(timespec="seconds"),
        "git_commit": version.tags.get("crossprop.git_commit"),
        "data_hash": version.tags.get("crossprop.data_hash"),
        "promotion": promoted or None,
    }


def _since(version: VersionInfo) -> datetime:
    """When the version became champion as far as is known: promoted, brought back, or else registered."""
    known = [version.created]
    for action in ("promotion", "rollback"):
        try:
            known.append(datetime.fromisoformat(version.tags[f"crossprop.{action}.at"]))
        except (KeyError, ValueError):
            continue
    return max(known)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)


def _short(version: VersionInfo | None) -> str:
    return "–" if version is None else f"v{version.version} {version.method}".strip()


def _error(version: VersionInfo | None) -> str:
    return "" if version is None or version.holdout_mae is None else f"{version.holdout_mae:.4g}"


def _standing(champion: VersionInfo | None, challenger: VersionInfo | None) -> str:
    if challenger is None:
        return ""
    if champion is None:
        return "the first"
    if champion == challenger:
        return "champion"
    if champion.holdout_mae is None or challenger.holdout_mae is None:
        return "not comparable"
    change = challenger.holdout_mae / champion.holdout_mae - 1 if champion.holdout_mae else 0.0
    return f"{'lower' if change < 0 else 'higher' if change > 0 else 'equal'} ({change:+.1%})"


def history_lines(model: ModelInfo) -> list[str]:
    """Who moved the champion when and why, newest first; moves by hand leave no trace and are named as such."""
    history = read_history(model.tags)
    lines = [
        f"{e.get('at')}  {e.get('action')}: version {e.get('from') or 'none'} → {e.get('to')}, "
        f"by {e.get('by')}: {e.get('why')}"
        for e in reversed(history)
    ]
    champion = model.aliases.get(CHAMPION)
    if champion and (not history or moved_by_hand(model.tags, champion)):
        lines.insert(
            0, f"The alias 'champion' was moved to version {champion} by hand; who and when is not known."
        )
    return lines
