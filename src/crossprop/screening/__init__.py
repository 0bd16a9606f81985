"""Screening: from elements to ranked compositions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossprop.screening.request import ScreenRequest

if TYPE_CHECKING:
    from crossprop.screening.result import ScreenResult

__all__ = ["ScreenRequest", "screen"]


def screen(request: ScreenRequest, *, uri: str | None = None, progress: bool = False) -> ScreenResult:
    """Screen compositions; continues an earlier call with the same request and folder that was stopped.

    ``uri`` is the model registry, by default that of the environment or the working folder. ``result.top`` is the
    ranked table, and iterating gives the kept compositions.

    Raises:
        CrosspropError: The request cannot be met, its folder holds another screening, or a model cannot be loaded.
    """
    from crossprop.screening.run import prepare

    return prepare(request, uri).run(progress)
