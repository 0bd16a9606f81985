"""Every challenger that is not champion yet, a few at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial

from crossprop.errors import CrosspropError
from crossprop.tracking.clean_pool import CleanPool
from crossprop.tracking.clean_process import PATIENCE_SECONDS, CleanProcess
from crossprop.tracking.lookup import CHALLENGER, CHAMPION, all_models
from crossprop.tracking.promotion import Promotion, promote
from crossprop.tracking.store import store_uri


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
