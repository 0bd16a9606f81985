"""One batch of a screening: chemistry, then property after property, each for the compositions that are left.

A sample tells beforehand in which order, how many compositions there are, and how long it takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS, composition_keys
from crossprop.inference.predictor import ServedModel
from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.conditions import INTERVAL_NAMES, Expression, composition_values, range_of
from crossprop.screening.properties import PropertyModel
from crossprop.screening.space import Compositions, Space


def schema(properties: Iterable[PropertyModel]) -> pa.Schema:
    """Columns of the table of kept compositions; those of a property carry its unit, model and coverage as metadata."""
    fields = [("position", pa.int64()), ("formula", pa.string()), ("n_elements", pa.int8())]
    for model in properties:
        about = {"unit": model.unit, "model": f"{model.model} {model.version}".strip()}
        interval = {**about, "coverage": f"{model.coverage:g}"}
        fields += [
            pa.field(model.column, pa.float64(), metadata=about),
            pa.field(f"{model.column}_lower", pa.float64(), metadata=interval),
            pa.field(f"{model.column}_upper", pa.float64(), metadata=interval),
            pa.field(f"{model.column}_in_domain", pa.bool_()),
        ]
    return pa.schema([*fields, ("note", pa.string())])


@dataclass(frozen=True)
class Pipeline:
    """All that a batch needs; immutable, shared by the threads.

    ``order`` is that in which the properties are predicted, ``known`` holds the keys of the compositions to leave out,
    and ``rows`` compositions are predicted at a time. Without ``chemistry`` all compositions are possible.
    """

    space: Space
    properties: tuple[PropertyModel, ...]
    models: Mapping[str, ServedModel]
    order: tuple[str, ...]
    conditions: tuple[Expression, ...]
    chemistry: ChargeBalance | None = None
    known: frozenset[str] = frozenset()
    rows: int = 2048

    def run(self, start: int, stop: int) -> tuple[int, pa.Table]:
        """Screen some positions: how many compositions were predicted, and those kept, columns as in :func:`schema`."""
        chosen = self.chosen(start, stop)
        parts = [self.screened(chosen[i : i + self.rows]) for i in range(0, len(chosen), self.rows)]
        return len(chosen), pa.concat_tables([schema(self.properties).empty_table(), *parts])

    def chosen(self, start: int, stop: int) -> Compositions:
        """The possible and new compositions among some positions."""
        compositions = self.space.block(start, stop)
        if self.chemistry is not None:
            compositions = compositions[self.chemistry.keep(compositions)]
        if self.known:
            keys = composition_keys(compositions.fractions())
            compositions = compositions[np.array([key not in self.known for key in keys], dtype=bool)]
        return compositions

    def screened(self, compositions: Compositions) -> pa.Table:
        """Those of some compositions that meet the conditions, with columns as in :func:`schema`."""
        rows = _Rows(compositions, self.conditions)
        for name in self.order:
            rows.predict(name, self.models[name])
            if any(part.names & set(_intervals(name)) for part in rows.open):
                rows.judge(name, self.models[name])
        for name in self.order:
            if f"{name}.note" not in rows.values:
                rows.judge(name, self.models[name])
        wanted = schema(self.properties)
        if not len(rows.compositions):
            return wanted.empty_table()
        names = [model.name for model in self.properties]
        columns: list[Any] = [rows.compositions.positions, rows.compositions.formulas()]
        columns.append((rows.compositions.amounts > 0).sum(axis=1))
        columns += [rows.values[name] for own in names for name in (own, *_intervals(own))]
        notes = zip(*(rows.values[f"{name}.note"] for name in names), strict=True)
        columns.append(
            ["; ".join(f"{n}: {note}" for n, note in zip(names, row, strict=True) if note) for row in notes]
        )
        return pa.table([pa.array(c, f.type) for c, f in zip(columns, wanted, strict=True)], schema=wanted)


class _Rows:
    """The compositions of a batch that are left, the values that are known, and the conditions that are open."""

    def __init__(self, compositions: Compositions, conditions: tuple[Expression, ...]) -> None:
        self.compositions = compositions
        self.values: dict[str, np.ndarray] = {}
        self.open = self._conditions = conditions
        self._fractions = compositions.fractions()
        self._check()

    def _check(self) -> None:
        """Check the open conditions whose names are all known, and drop the rows that fail."""
        known = {*self.values, "n_elements", *ELEMENTS}
        ready = [part for part in self.open if part.names <= known]
        self.open = tuple(part for part in self.open if part not in ready)
        if ready:
            values = composition_values(self._fractions) | self.values
            held = np.ones(len(self.compositions), dtype=bool)
            for part in ready:
                held &= part(values)
            self._keep(np.flatnonzero(held))

    def _keep(self, rows: NDArray[np.intp]) -> None:
        if len(rows) == len(self.compositions):
            return
        self.compositions, self._fractions = self.compositions[rows], self._fractions[rows]
        self.values = {name: array[rows] for name, array in self.values.items()}

    def predict(self, name: str, model: ServedModel) -> None:
        """Predict a property; rows whose value fails a condition are dropped, many of them for less work."""
        if len(self.compositions):
            left, values = model.predict_within(self._fractions, *range_of(self._conditions, name))
            self._keep(left)
            self.values[name] = values
            self._check()

    def judge(self, name: str, model: ServedModel) -> None:
        """Add the intervals of a predicted property, its domain and the notes."""
        if len(self.compositions):
            found = model.judged(self._fractions, self.values[name])
            for key, ending in zip(_intervals(name), INTERVAL_NAMES, strict=True):
                self.values[key] = np.asarray(getattr(found, ending))
            self.values[f"{name}.note"] = np.array(found.note, dtype=object)
            self._check()


def _intervals(name: str) -> tuple[str, ...]:
    """Names that are known once the intervals of a property are."""
    return tuple(f"{name}.{ending}" for ending in INTERVAL_NAMES)


_SAMPLE = 512
_NEIGHBOURS = 8
"""Neighbouring positions at each place of a sample."""
_MANY_PLACES = 4096
"""Places where the chemistry lets only some compositions pass."""
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
    if order is None:
        several = len(pipeline.order) > 1
        order = _cheapest_order(pipeline, sample.fractions()) if several else pipeline.order
    ordered = replace(pipeline, order=order)
    with ThreadPoolExecutor(workers) as threads:
        begun = time.perf_counter()
        list(threads.map(ordered.screened, [sample] * workers))
        return order, (time.perf_counter() - begun) / (workers * len(sample))


def _sample(pipeline: Pipeline) -> Compositions:
    """Up to 512 possible compositions that lie evenly in the space."""
    last = max(0, pipeline.space.total - _NEIGHBOURS)
    places = _SAMPLE if pipeline.chemistry is None else _MANY_PLACES
    starts = np.unique(np.linspace(0, last, places).astype(np.int64)).tolist()
    blocks = [pipeline.chosen(start, start + _NEIGHBOURS) for start in starts]
    found = Compositions(
        np.concatenate([block.positions for block in blocks]),
        np.concatenate([block.amounts for block in blocks]),
    )
    _, first = np.unique(found.positions, return_index=True)
    return found[first[np.linspace(0, len(first) - 1, min(_SAMPLE, len(first))).astype(np.int64)]]


def _cheapest_order(pipeline: Pipeline, fractions: NDArray[np.float64]) -> tuple[str, ...]:
    """The order with the least expected cost for a sample of compositions, shape (n, 86)."""
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
        needs = {p for p in pipeline.models if not part.names.isdisjoint((p, *_intervals(p)))}
        passed.append((frozenset(needs), np.broadcast_to(part(values), len(fractions))))
    return best_order(tuple(pipeline.models), costs, passed)


def best_order(
    names: tuple[str, ...], costs: Mapping[str, float], passed: list[tuple[frozenset[str], NDArray[np.bool_]]]
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
