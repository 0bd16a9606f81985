"""Before a screening: how many compositions, in which order to predict, how long it will take."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.compositions import Compositions
from crossprop.screening.conditions import INTERVAL_NAMES, Conditions
from crossprop.screening.pipeline import Pipeline
from crossprop.screening.space import Space

SAMPLE = 512
_RUN = 8
"""Neighbouring positions drawn together: each system that is touched costs."""
_COUNT_BLOCK = 1 << 18
_FEW = 6


@dataclass(frozen=True)
class Count:
    """How many compositions pass the chemistry.

    Attributes:
        compositions: That many; an estimate where not exact.
        exact: Whether all were looked at.
    """

    compositions: int
    exact: bool


@dataclass(frozen=True)
class Calibration:
    """What a sample tells about a screening.

    Attributes:
        order: Order of the properties that skips most work.
        seconds: Wall time that one composition takes of all threads together, skipped work left out.
        kept: Share of the sample that met all conditions.
        sample: Compositions in it.
    """

    order: tuple[str, ...]
    seconds: float
    kept: float
    sample: int


def count_possible(space: Space, chemistry: ChargeBalance | None, patience: float = 20.0) -> Count:
    """Count what the chemistry lets pass: all of it, or in the time given blocks that lie evenly in the space.

    Args:
        space: All compositions.
        chemistry: Which are possible; ``None`` where all are, which costs nothing.
        patience: Seconds after which an estimate will do.
    """
    if chemistry is None:
        return Count(space.total, True)
    starts = np.arange(0, space.total, _COUNT_BLOCK)
    # Scattered over the space first, so that the blocks seen by the deadline stand for all.
    order = np.random.default_rng(0).permutation(len(starts))
    deadline = time.monotonic() + patience
    kept = seen = 0
    for i in order.tolist():
        block = space.block(int(starts[i]), int(starts[i]) + _COUNT_BLOCK)
        kept += int(chemistry.keep(block).sum())
        seen += len(block)
        if time.monotonic() > deadline:
            break
    if seen == space.total:
        return Count(kept, True)
    return Count(round(space.total * kept / seen), False)


def calibrate(pipeline: Pipeline, order: tuple[str, ...] | None = None, workers: int = 1) -> Calibration:
    """Predict a small sample of the space and choose the order of the properties by it.

    A condition that fails early spares the other models. The order hangs on measured times, and it decides which
    rows a model predicts together: two orders keep the same compositions up to float32's rounding.

    Args:
        pipeline: The screening.
        order: Order that was chosen before, to be kept.
        workers: Threads that will be at work; they are for the measured time, so that it holds what they and other
            programs take from each other.
    """
    sample = _sample(pipeline)
    if not len(sample):
        return Calibration(order or pipeline.order, 0.0, 0.0, 0)
    fractions = sample.fractions()
    values: dict[str, np.ndarray] = {}
    costs: dict[str, float] = {}
    for name, model in pipeline.models.items():
        found = model.predict(fractions)
        values[name] = found.value
        for ending in INTERVAL_NAMES:
            values[f"{name}.{ending}"] = np.asarray(getattr(found, ending))
        begun = time.perf_counter()
        model.predict_within(fractions, *pipeline.conditions.range_of(name))
        costs[name] = (time.perf_counter() - begun) / len(sample)
    passed = _passed(pipeline.conditions, values, sample, fractions)
    order = order or best_order(tuple(pipeline.models), costs, passed)
    ordered = replace(pipeline, order=order)
    with ThreadPoolExecutor(workers) as threads:
        begun = time.perf_counter()
        list(threads.map(lambda _: ordered.screened(sample), range(workers)))
        seconds = (time.perf_counter() - begun) / (workers * len(sample))
    return Calibration(order, seconds, _share(set(pipeline.models), passed), len(sample))


Passed = list[tuple[frozenset[str], NDArray[np.bool_]]]


def best_order(names: tuple[str, ...], costs: dict[str, float], passed: Passed) -> tuple[str, ...]:
    """The order with the least expected cost; with many properties, the one that is cheapest step by step.

    Args:
        names: Properties; equally good orders keep theirs.
        costs: Seconds per composition by property.
        passed: For every condition the properties that it needs, and which of the sample meet it.
    """
    if len(names) <= _FEW:
        return min(permutations(names), key=lambda order: expected_cost(order, costs, passed))
    order: tuple[str, ...] = ()
    while left := [name for name in names if name not in order]:
        order += (min(left, key=lambda name: _priority(name, order, costs, passed)),)
    return order


def expected_cost(order: Iterable[str], costs: dict[str, float], passed: Passed) -> float:
    """Seconds per composition if the properties are predicted in this order."""
    total, known = 0.0, set[str]()
    for name in order:
        total += costs[name] * _share(known, passed)
        known.add(name)
    return total


def _priority(name: str, before: tuple[str, ...], costs: dict[str, float], passed: Passed) -> float:
    """Cost of a property for every composition that it removes (Smith's rule)."""
    removed = _share(set(before), passed) - _share({*before, name}, passed)
    return costs[name] / removed if removed > 0 else np.inf


def _share(known: set[str], passed: Passed) -> float:
    masks = [mask for needs, mask in passed if needs <= known]
    return float(np.logical_and.reduce(masks).mean()) if masks else 1.0


def _passed(
    conditions: Conditions, values: dict[str, np.ndarray], sample: Compositions, fractions: np.ndarray
) -> Passed:
    from crossprop.data.compositions import ELEMENTS

    known = {**values, "n_elements": sample.n_elements}
    properties = {name for name in values if not name.endswith((".lower", ".upper", ".in_domain"))}
    passed: Passed = []
    for part in conditions.parts:
        own = {n: fractions[:, ELEMENTS.index(n)] for n in part.names if n in ELEMENTS}
        needs = frozenset(p for p in properties if any(n == p or n.startswith(f"{p}.") for n in part.names))
        passed.append((needs, np.broadcast_to(part({**known, **own}), len(sample)).astype(bool)))
    return passed


def _sample(pipeline: Pipeline) -> Compositions:
    """Possible compositions that lie evenly in the space: enough of them, or what a bounded search finds."""
    total = pipeline.space.total
    for runs in (SAMPLE // _RUN, 2048, 32768):
        starts = np.unique(np.linspace(0, max(0, total - _RUN), runs).astype(np.int64))
        blocks = [pipeline.chosen(int(start), int(start) + _RUN) for start in starts]
        found = Compositions(
            *(np.concatenate([getattr(b, f) for b in blocks]) for f in ("positions", "elements", "amounts"))
        )
        if len(found) >= SAMPLE // 2 or len(starts) * _RUN >= total:
            break
    _, first = np.unique(found.positions, return_index=True)
    return found[first[np.linspace(0, len(first) - 1, min(SAMPLE, len(first))).astype(np.int64)]]
