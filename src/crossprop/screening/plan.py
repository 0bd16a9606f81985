"""What a sample tells before a screening: the order of the properties, the number of compositions, and the time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.conditions import INTERVAL_NAMES, composition_values, range_of
from crossprop.screening.pipeline import Pipeline
from crossprop.screening.space import Compositions, Space

SAMPLE = 512
# Neighbouring positions at each place of a sample, and places where the chemistry lets only some of them pass.
_NEIGHBOURS, _MANY_PLACES = 8, 4096
_COUNT_BLOCK = 1 << 18
_MOST_ORDERED = 12


class Count(NamedTuple):
    """How many compositions pass the chemistry: exact, or an estimate."""

    compositions: int
    exact: bool


def count_possible(space: Space, chemistry: ChargeBalance | None, seconds: float = 20.0) -> Count:
    """Count the compositions that the chemistry lets pass; estimate it where that takes longer than these seconds."""
    if chemistry is None:
        return Count(space.total, True)
    starts = np.random.default_rng(0).permutation(np.arange(0, space.total, _COUNT_BLOCK))
    deadline = time.monotonic() + seconds
    kept = seen = 0
    for start in starts.tolist():  # in random order: any part of them is representative
        block = space.block(start, start + _COUNT_BLOCK)
        kept += int(chemistry.keep(block).sum())
        seen += len(block)
        if time.monotonic() > deadline:
            break
    return Count(round(space.total * kept / seen), seen == space.total)


def calibrate(
    pipeline: Pipeline, order: tuple[str, ...] | None = None, workers: int = 1
) -> tuple[tuple[str, ...], float]:
    """Choose the order of the properties by a sample, and measure the wall time in seconds of one composition.

    A condition that fails early spares the other models. The order depends on measured times, and it decides which
    rows a model predicts together: two orders keep the same compositions up to float32's rounding. An order that an
    earlier session chose is kept. All threads are busy while the time is measured.
    """
    sample = _sample(pipeline)
    if not len(sample):
        return order or pipeline.order, 0.0
    fractions = sample.fractions()
    values, costs = composition_values(fractions), {}
    for name, model in pipeline.models.items():
        found = model.predict(fractions)
        values[name] = found.value
        values |= {f"{name}.{ending}": np.asarray(getattr(found, ending)) for ending in INTERVAL_NAMES}
        begun = time.perf_counter()
        model.predict_within(fractions, *range_of(pipeline.conditions, name))
        costs[name] = time.perf_counter() - begun
    passed = []
    for part in pipeline.conditions:
        needs = {p for p in pipeline.models for name in part.names if name == p or name.startswith(f"{p}.")}
        passed.append((frozenset(needs), np.broadcast_to(part(values), len(sample))))
    ordered = replace(pipeline, order=order or best_order(tuple(pipeline.models), costs, passed))
    with ThreadPoolExecutor(workers) as threads:
        begun = time.perf_counter()
        list(threads.map(ordered.screened, [sample] * workers))
        seconds = (time.perf_counter() - begun) / (workers * len(sample))
    return ordered.order, seconds


def best_order(
    names: tuple[str, ...],
    costs: Mapping[str, float],
    passed: list[tuple[frozenset[str], NDArray[np.bool_]]],
) -> tuple[str, ...]:
    """The order with the least expected cost, given the seconds of each property and what a sample passed.

    ``passed`` holds for each condition the properties that it needs and which compositions of the sample meet it.
    Equally good orders keep that of ``names``, and so do more than 12 properties.
    """

    @cache
    def cheapest(known: frozenset[str]) -> tuple[float, tuple[str, ...]]:
        """Least cost of the properties that are not known, and their order."""
        masks = [mask for needs, mask in passed if needs <= known]
        share = float(np.logical_and.reduce(masks).mean()) if masks else 1.0
        ways = []
        for name in names:
            if name not in known:
                cost, order = cheapest(known | {name})
                ways.append((share * costs[name] + cost, (name, *order)))
        return min(ways, key=lambda way: way[0], default=(0.0, ()))

    return cheapest(frozenset())[1] if len(names) <= _MOST_ORDERED else names


def _sample(pipeline: Pipeline) -> Compositions:
    """Up to 512 possible compositions that lie evenly in the space."""
    last = max(0, pipeline.space.total - _NEIGHBOURS)
    places = SAMPLE if pipeline.chemistry is None else _MANY_PLACES
    starts = np.unique(np.linspace(0, last, places).astype(np.int64)).tolist()
    blocks = [pipeline.chosen(start, start + _NEIGHBOURS) for start in starts]
    fields = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("positions", "amounts"))
    found = Compositions(*fields)
    _, first = np.unique(found.positions, return_index=True)
    return found[first[np.linspace(0, len(first) - 1, min(SAMPLE, len(first))).astype(np.int64)]]


_YEAR = 365 * 86400


def duration(seconds: float) -> str:
    """A time in a suitable unit."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days" if seconds < 2 * _YEAR else f"{seconds / _YEAR:,.0f} years"
