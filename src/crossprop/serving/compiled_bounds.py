"""Predictions of those compositions only whose value may lie where somebody asks for it.

Every member's answer lies within the bounds of its target transform. Once the members that have answered, and the
bounds of those that have not, put a row's value outside of the range, no further member is asked about that row.
Nothing is estimated: what is left out lies outside for certain, and what is left has its ordinary prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossprop.serving.compiled_members import Member

_SLACK = 1e-9
"""Share of the bounds by which a value may miss the range: sums in another order differ by less."""


@dataclass(frozen=True)
class Turn:
    """One member in the order in which they are asked.

    Attributes:
        place: Its place among the members.
        share: Its share in the prediction.
        least: What the members after it add to the prediction at least.
        most: The same at most.
    """

    place: int
    share: float
    least: float
    most: float


def turns(members: Sequence[Member], n_folds: int) -> tuple[Turn, ...]:
    """The members in the order that settles most for its cost, those without bounds first."""

    def settled(place: int) -> float:
        low, high = members[place].bounds
        return abs(members[place].weight) * (high - low) / max(members[place].cost, 1)

    order, least, most = [], 0.0, 0.0
    for place in sorted(range(len(members)), key=settled):
        share = members[place].weight / n_folds
        order.append(Turn(place, share, least, most))
        ends = [share * bound for bound in members[place].bounds]
        slack = _SLACK * max(map(abs, ends))
        least, most = least + min(ends) - slack, most + max(ends) + slack
    return tuple(order[::-1])


def answers_within(
    order: Sequence[Turn],
    n: int,
    low: float,
    high: float,
    ask: Callable[[int, NDArray[np.intp]], NDArray[np.float64]],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Ask member after member about the rows whose value may still lie within a range.

    Args:
        order: From :func:`turns`.
        n: Rows.
        low: Lower end of the range.
        high: Upper end.
        ask: Gives a member's answers for some rows.

    Returns:
        The rows that are left, in their order, and all members' answers for them, shape (n_members, n_left).
    """
    left, so_far, slack = np.arange(n), np.zeros(n), np.zeros(n)
    answers = np.empty((len(order), n))
    for turn in order:
        answers[turn.place, left] = found = ask(turn.place, left)
        so_far, slack = so_far + turn.share * found, slack + _SLACK * np.abs(turn.share * found)
        # never what is no number
        outside = (so_far + turn.most + slack < low) | (so_far + turn.least - slack > high)
        left, so_far, slack = left[~outside], so_far[~outside], slack[~outside]
        if not len(left):
            break
    return left, answers[:, left]
