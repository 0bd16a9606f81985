"""From minutes to a plan: which methods, how many trials and folds, estimated from measured costs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from crossprop.io import usable_cores
from crossprop.methods import Family, Method, Side

SCRATCH: Final = (Method.BASE, Method.ML, Method.BOOST)
TRANSFER: Final = (Method.BOOST_SOURCES, Method.RESNET_FINETUNE)
ELEMNET: Final = (Method.ML_FEATEXTR, Method.FINETUNE, Method.MODFINETUNE)

START_SECONDS: Final = 2.0
KERAS_SECONDS: Final = 6.0
"""What a process needs before its first piece of work, and in addition before its first network."""

ALONE: Final = 0.5
"""A process alone is faster than one of as many as there are cores, which is how the costs were measured."""

WHOLE_STEPS: Final = 1.7
"""How many times the steps a network takes where every method is computed in full."""

LEAST_ROWS_OF_FOLDS: Final = ((1_000, 10), (5_000, 5), (20_000, 4))
"""Folds by rows, as in the quick tier of the JARVIS study; 3 beyond."""


@dataclass(frozen=True)
class Effort:
    """How much is spent on one target.

    Attributes:
        name: Name of the rung.
        trials: Trials of every regressor cell.
        network_trials: Trials of every network cell.
        most_folds: Folds at most; fewer where there are many rows.
        networks: Networks that start from scratch.
        whole: Every method in full; otherwise hopeless ones end early.
    """

    name: str
    trials: int
    network_trials: int
    most_folds: int
    networks: tuple[Method, ...] = ()
    whole: bool = False


EFFORTS: Final = (
    Effort("glance", 4, 1, 3),
    Effort("short", 4, 1, 5, (Method.RESNET,)),
    Effort("quick", 5, 2, 10, (Method.RESNET,)),
    Effort("long", 8, 4, 10, (Method.DL, Method.RESNET)),
    Effort("full", 16, 8, 10, (Method.DL, Method.RESNET), whole=True),
)
"""From the least to the most."""

QUICK_MINUTES: Final = 10.0


@dataclass(frozen=True)
class Plan:
    """What is computed for one target.

    Attributes:
        effort: The rung.
        methods: Methods, scratch first.
        folds: Folds of the cross-validation.
        seconds: Estimated wall time of it, without pretraining.
        left_out: What a larger budget would add, in words.
    """

    effort: Effort
    methods: tuple[Method, ...]
    folds: int
    seconds: float
    left_out: tuple[str, ...] = ()


def plan_effort(
    n_rows: int,
    *,
    minutes: float | None,
    workers: int = 0,
    joint: bool = False,
    elemnets: int = 0,
    methods: Sequence[Method] | None = None,
    folds: int | None = None,
    trials: int | None = None,
) -> Plan:
    """The most thorough plan that fits into the time; the least thorough where none does.

    Args:
        n_rows: Rows to learn from.
        minutes: Wall time that the fits may take; ``None`` computes everything in full.
        workers: Processes; 0 for one on every core.
        joint: Whether there is a joint source network.
        elemnets: Source networks of the paper's kind.
        methods: Methods instead of those that the plan would choose.
        folds: Folds instead of those that the plan would choose.
        trials: Trials of every cell instead of those that the plan would choose.
    """
    plans = [_plan(effort, n_rows, workers, joint, elemnets, methods, folds, trials) for effort in EFFORTS]
    if minutes is None:
        return plans[-1]
    fitting = [plan for plan in plans if plan.seconds <= 60 * minutes]
    chosen = fitting[-1] if fitting else plans[0]
    left_out = [str(method) for method in plans[-1].methods if method not in chosen.methods]
    notes = [f"methods {', '.join(left_out)}"] if left_out else []
    full = plans[-1]
    if full.effort.trials > chosen.effort.trials and trials is None:
        notes.append(
            f"{full.effort.trials} trials of a regressor and {full.effort.network_trials} of a network instead of "
            f"{chosen.effort.trials} and {chosen.effort.network_trials}"
        )
    if full.folds > chosen.folds:
        notes.append(f"{full.folds} folds instead of {chosen.folds}")
    if not chosen.effort.whole:
        notes.append("cross-validation of methods that fell behind early")
    return replace(chosen, left_out=tuple(notes))


def _plan(
    effort: Effort,
    n_rows: int,
    workers: int,
    joint: bool,
    elemnets: int,
    methods: Sequence[Method] | None,
    folds: int | None,
    trials: int | None,
) -> Plan:
    if trials is not None:
        effort = replace(effort, trials=trials, network_trials=trials)
    if methods is None:
        chosen = [*SCRATCH, *effort.networks]
        if joint:
            chosen += [m for m in TRANSFER if m.family is Family.REGRESSOR or effort.networks]
        if elemnets:
            chosen += [m for m in ELEMNET if m.family is Family.REGRESSOR or effort.networks]
        methods = [*chosen, Method.BLEND]
    usual = next((k for limit, k in LEAST_ROWS_OF_FOLDS if n_rows < limit), 3)
    n_folds = folds or min(effort.most_folds, usual if not effort.whole else 10)
    order = tuple(method for method in Method if method in methods)
    seconds = _seconds(effort, order, n_folds, n_rows, workers, elemnets)
    return Plan(effort, order, n_folds, seconds)


def _seconds(
    effort: Effort, methods: Sequence[Method], folds: int, n_rows: int, workers: int, elemnets: int
) -> float:
    """Estimated wall time; costs as measured on 41 data sets of 500 to 25,000 rows."""
    learning = [m for m in methods if m.family in (Family.REGRESSOR, Family.NETWORK)]
    spent, longest = 0.0, 0.0
    for side in (Side.SCRATCH, Side.TRANSFER):
        for family, trials in (
            (Family.REGRESSOR, effort.trials),
            (Family.NETWORK, effort.network_trials),
        ):
            cells = [(m, count_points(m, elemnets)) for m in learning if (m.side, m.family) == (side, family)]
            for method, points in cells:
                tried, fitted = _costs(method, n_rows)
                if effort.whole:  # no trial is cut short, and networks take more steps
                    fitted *= WHOLE_STEPS if family is Family.NETWORK else 1.0
                    tried, fitted = max(tried, fitted), fitted * points
                spent += trials * points * tried + folds * fitted
                longest = max(longest, trials * tried + fitted)
    processes = min(workers or usable_cores(), usable_cores())
    networks = any(m.family is Family.NETWORK or m.side is Side.TRANSFER for m in learning)
    return (
        START_SECONDS
        + KERAS_SECONDS * networks
        + (ALONE if processes == 1 else 1.0) * max(spent / processes, longest)
    )


def count_points(method: Method, elemnets: int) -> int:
    """Cells of a method: the paper's scratch ones read two representations, its transfer ones every ElemNet."""
    if method in (Method.ML, Method.DL):
        return 2
    return max(elemnets, 1) if method.side is Side.TRANSFER and not method.extension else 1


def _costs(method: Method, n_rows: int) -> tuple[float, float]:
    """Seconds of a screening trial (on 2,000 rows at most) and of a fold."""
    few, n = min(n_rows, 2_000), n_rows
    if method in (Method.ML, Method.ML_FEATEXTR):
        return 0.3 + few / 4_000, 0.4 + n / 1_000
    if method.family is Family.REGRESSOR:
        return 0.5 + few / 1_500, 0.5 + n / 2_500
    if method in (Method.RESNET, Method.RESNET_FINETUNE):
        return 2.5, 5.0 + n / 2_300
    return 5.5, 6.0 + n / 1_200


def slowdown(workers: int = 0) -> float:
    """How many times longer so many processes need beside what the machine is doing now; 1 where it has room.

    The load average of the last minute counts the others, who share the cores evenly with the new processes. It
    decides nothing: the same file and minutes give the same plan, whatever else is going on.

    Args:
        workers: Processes; 0 for one on every core.
    """
    cores = usable_cores()
    processes = min(workers or cores, cores)
    return max(1.0, (load() + processes) / cores)


def load() -> float:
    """Processes that wanted a core in the last minute, this one not counted; 0 where the system does not tell."""
    try:
        return max(0.0, os.getloadavg()[0] - 1.0)
    except (AttributeError, OSError):
        return 0.0
