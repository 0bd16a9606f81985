"""From challenger to champion, and back: a gate's or a person's decision, with who, when and why."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass

from crossprop.errors import PromotionError, TrackingError
from crossprop.tracking.clean_process import CleanProcess
from crossprop.tracking.gates import Gate
from crossprop.tracking.judging import judge
from crossprop.tracking.lookup import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    ModelInfo,
    VersionInfo,
    find_model,
    pick_version,
)
from crossprop.tracking.model_files import assert_whole
from crossprop.tracking.moves import (
    MOVING_TAG,
    Move,
    apply_move,
    moved_by_hand,
    now,
    read_history,
    settle_interrupted,
)
from crossprop.tracking.store import store_uri

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
