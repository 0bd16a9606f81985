"""Successive halving over methods: who goes on after the screening, and who after the first fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crossprop.config import Fidelity
from crossprop.experiments.cells import Cell
from crossprop.vocabulary import Family, Method, Representation, Side

Heat = tuple[Side, Family, bool]
"""Cells that are compared after the screening: side, family, and whether the method is ours."""

Race = tuple[Side, bool]
"""Cells that are compared after the first fold: side, and whether the method is ours."""


def category_of(cell: Cell) -> tuple[Method, Representation | None]:
    """What is cross-validated by itself: a method, and the paper's scratch ones by representation (its Table 1)."""
    split = cell.method.side is Side.SCRATCH and not cell.method.ours
    return cell.method, cell.representation if split else None


def heat_of(cell: Cell) -> Heat:
    """The heat that a cell runs in."""
    return cell.method.side, cell.method.family, cell.method.ours


def race_of(cell: Cell) -> Race:
    """The race that a cell runs in."""
    return cell.method.side, cell.method.ours


def after_screening(
    best: Sequence[Cell], val_mae: Mapping[str, float], fidelity: Fidelity | None
) -> tuple[list[Cell], dict[str, str]]:
    """Which methods' best cells of one heat are cross-validated.

    Args:
        best: The best cell of every method of the heat.
        val_mae: Validation MAE of the screening by cell id.
        fidelity: The rules; ``None`` lets all go on.

    Returns:
        The cells that go on, in the order given, and for every other one by its id why it stops.
    """
    if fidelity is None:
        return list(best), {}
    ranked = sorted(best, key=lambda cell: val_mae[cell.id])
    going = ranked[: fidelity.after_screening]
    stopped = {
        cell.id: f"after screening: {_behind(val_mae[cell.id], val_mae[ranked[0].id])} behind {ranked[0].label}"
        for cell in ranked[fidelity.after_screening :]
    }
    return [cell for cell in best if cell in going], stopped


def after_first_fold(
    racing: Sequence[Cell], first: Mapping[str, float], fidelity: Fidelity
) -> tuple[list[Cell], dict[str, str]]:
    """Which cells of one race get the other folds; arguments and result as of :func:`after_screening`."""
    ranked = sorted(racing, key=lambda cell: first[cell.id])
    if not ranked:
        return [], {}
    limit = first[ranked[0].id] * (1 + fidelity.margin)
    going = [cell for cell in ranked[: fidelity.after_first_fold] if first[cell.id] <= limit]
    stopped = {
        cell.id: f"after fold 1 of {cell.folds}: "
        f"{_behind(first[cell.id], first[ranked[0].id])} behind {ranked[0].label}"
        for cell in ranked
        if cell not in going
    }
    return [cell for cell in racing if cell in going], stopped


def _behind(error: float, best: float) -> str:
    return f"{100 * (error / best - 1):.1f} %" if best > 0 else f"{error - best:.3g}"
