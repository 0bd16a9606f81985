"""Screening: from elements to ranked compositions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossprop.screening.request import ScreenRequest

if TYPE_CHECKING:
    from crossprop.screening.result import ScreenResult

__all__ = ["ScreenRequest", "screen"]


def screen(request: ScreenRequest, *, uri: str | None = None, progress: bool = False) -> ScreenResult:
    """Screen compositions; continues an earlier call with the same request and folder that was stopped.

    Args:
        request: The screening, with the folder of its results.
        uri: Model registry; that of the environment or the working folder if none is named.
        progress: Show a progress bar on a terminal.

    Returns:
        ``result.top`` is the ranked table, iterating gives the kept compositions.

    Raises:
        ScreeningError: The request cannot be met, its folder holds another screening, or cannot be written.
        ExpressionError: A condition or a quantity is none.
        UnknownModelError: The registry has no such model.
        ModelFormatError: A model is incomplete or damaged.
    """
    from crossprop.screening.run import prepare

    return prepare(request, uri).run(progress)
