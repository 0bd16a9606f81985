"""Selection: the best cell of each method, the best of each side; by validation errors alone."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from crossprop.experiments.grid import Cell
from crossprop.experiments.results import CellResult
from crossprop.methods import Method, Representation, Side


@dataclass(frozen=True)
class Winners:
    """Cells chosen by mean validation MAE of the cross-validation, never by the hold-out; ``None`` where none finished.

    The best scratch and transfer cell of the paper's methods, the best of the extension methods but the plain baseline,
    and ``shrunk``: the better of the plain median and the blend, where there are both. It wins: the blend holds every
    other cell and has to beat the plain median, whereas the best of many cells is the best by chance.
    """

    best_sc: CellResult | None
    best_tl: CellResult | None
    best_extension: CellResult | None = None
    shrunk: CellResult | None = None

    @property
    def winner(self) -> CellResult | None:
        """The shrunk one if there is one, else the best; the earlier, being simpler, where they are equal."""
        return self.shrunk or _best((self.best_sc, self.best_tl, self.best_extension))


def _best(results: Iterable[CellResult | None]) -> CellResult | None:
    """The one with the least mean validation MAE, the earlier of equals."""
    finished = [result for result in results if result is not None]
    return min(finished, key=lambda result: result.cv_mae_mean or 0.0, default=None)


def best_of(cells: Sequence[Cell], errors: Mapping[str, float], group: Callable[[Cell], Hashable]) -> list[Cell]:
    """The cell with the least error (by cell id) of every group, the earlier of equals; those without one failed."""
    best: dict[Hashable, Cell] = {}
    for cell in cells:
        if cell.id not in errors:
            continue
        key = group(cell)
        if key not in best or errors[cell.id] < errors[best[key].id]:
            best[key] = cell
    return list(best.values())


def choose_winners(results: Iterable[CellResult]) -> Winners:
    """The best scratch, transfer and extension cell among those with a whole cross-validation."""
    validated = [result for result in results if result.cv_mae is not None]
    shrunk = [result for one in (Method.PLAIN_MEDIAN, Method.BLEND) for result in validated if result.method is one]
    paper = [result for result in validated if not result.method.extension]
    return Winners(
        _best(result for result in paper if result.method.side is Side.SCRATCH),
        _best(result for result in paper if result.method.side is Side.TRANSFER),
        _best(r for r in validated if r.method.extension and r.method is not Method.PLAIN_BASELINE),
        _best(shrunk) if len(shrunk) == 2 else None,
    )


def category_of(cell: Cell) -> tuple[Method, Representation | None]:
    """What is cross-validated separately: a method, and the paper's scratch ones by representation (its Table 1)."""
    split = cell.method.side is Side.SCRATCH and not cell.method.extension
    return cell.method, cell.representation if split else None


def going_on(
    cells: Sequence[Cell], errors: Mapping[str, float], when: str, places: int, margin: float | None = None
) -> tuple[list[Cell], dict[str, str]]:
    """The cells of one bracket that go on, in the order given, and by id why the others stop.

    Those go on that are among the best ``places`` by error (by id) and not more than the share ``margin``
    behind the best.
    """
    ranked = sorted(cells, key=lambda cell: errors[cell.id])
    best = errors[ranked[0].id] if ranked else 0.0
    limit = inf if margin is None else best * (1 + margin)
    going = [cell for cell in ranked[:places] if errors[cell.id] <= limit]
    stopped = {}
    for cell in ranked:
        error = errors[cell.id]
        behind = f"{100 * (error / best - 1):.1f} %" if best > 0 else f"{error - best:.3g}"
        if cell not in going:
            stopped[cell.id] = f"{when}: {behind} behind {ranked[0].label}"
    return [cell for cell in cells if cell in going], stopped
