"""One batch of a screening: chemistry, then the properties, in an order that a sample tells beforehand."""

import random
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS, composition_keys, formula_warnings
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
    """All that a batch needs; immutable, shared by the threads."""

    space: Space
    properties: tuple[PropertyModel, ...]
    models: Mapping[str, ServedModel]
    order: tuple[str, ...]  # in which the properties are predicted
    conditions: tuple[Expression, ...]
    chemistry: ChargeBalance | None = None  # without it all compositions are possible
    known: frozenset[str] = frozenset()  # keys of the compositions to leave out
    rows: int = 2048  # predicted at a time

    def run(self, start: int, stop: int) -> tuple[int, pa.Table]:
        """Screen some positions: how many compositions were predicted, and those kept, columns as in :func:`schema`."""
        chosen = self.chosen(start, stop)
        parts = [self.screened(chosen[i : i + self.rows]) for i in range(0, len(chosen), self.rows)]
        tables = [schema(self.properties).empty_table(), *(table for _, table in parts)]
        return sum(n for n, _ in parts), pa.concat_tables(tables)

    def chosen(self, start: int, stop: int) -> Compositions:
        """The possible and new compositions among some positions."""
        compositions = self.space.block(start, stop)
        if self.chemistry is not None:
            compositions = compositions[self.chemistry.keep(compositions)]
        if self.known:
            keys = composition_keys(compositions.fractions())
            compositions = compositions[np.array([key not in self.known for key in keys], dtype=bool)]
        return compositions

    def screened(self, compositions: Compositions) -> tuple[int, pa.Table]:
        """As :meth:`run`, of some possible and new compositions."""
        rows = _Rows(compositions, self.conditions)
        predicted = len(rows.compositions)
        for name in self.order:
            rows.predict(name, self.models[name])
            if any(part.names & set(_intervals(name)) for part in rows.open):
                rows.judge(name, self.models[name])
        for name in self.order:
            if f"{name}.note" not in rows.values:
                rows.judge(name, self.models[name])
        wanted = schema(self.properties)
        if not len(rows.compositions):
            return predicted, wanted.empty_table()
        names = [model.name for model in self.properties]
        left = rows.compositions
        columns: list[Any] = [left.positions, left.formulas(), (left.amounts > 0).sum(axis=1)]
        columns += [rows.values[name] for own in names for name in (own, *_intervals(own))]
        noted = [[f"{n}: {text}" if text else "" for text in rows.values[f"{n}.note"]] for n in names]
        if left.written is not None:
            noted.insert(0, ["; ".join(formula_warnings(text)) for text in left.written])
        columns.append(["; ".join(filter(None, row)) for row in zip(*noted, strict=True)])
        return predicted, pa.table([pa.array(c, f.type) for c, f in zip(columns, wanted, strict=True)], schema=wanted)


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


_SAMPLE, _NEIGHBOURS = 512, 8  # compositions of a sample, and neighbouring positions at each of its places
_MANY_PLACES = 4096  # where the chemistry lets only some compositions pass
_COUNT_BLOCK = 1 << 18


class Count(NamedTuple):
    """How many compositions pass the chemistry: exact, or an estimate."""

    compositions: int
    exact: bool


def count_possible(space: Space, chemistry: ChargeBalance | None, seconds: float = 20.0) -> Count:
    """Count the compositions that the chemistry lets pass; estimate it where that takes longer than these seconds."""
    if chemistry is None:
        return Count(space.total, True)
    blocks = range(0, space.total, _COUNT_BLOCK)
    starts = random.Random(0).sample(blocks, min(len(blocks), 100_000))
    deadline = time.monotonic() + seconds
    kept = seen = 0
    for start in starts:  # in random order: any part of them is representative
        block = space.block(start, start + _COUNT_BLOCK)
        kept += int(chemistry.keep(block).sum())
        seen += len(block)
        if time.monotonic() > deadline:
            break
    return Count(round(space.total * kept / seen), seen == space.total)


def calibrate(
    pipeline: Pipeline, order: tuple[str, ...] | None = None, workers: int = 1
) -> tuple[tuple[str, ...], float]:
    """Choose the order of the properties by a sample, and the seconds of a composition where all threads are busy."""
    sample = _sample(pipeline)
    if not len(sample):
        return order or pipeline.order, 0.0
    if order is None:  # an earlier session's is kept: it decides how models round
        several = len(pipeline.order) > 1
        order = _cheapest_order(pipeline, sample.fractions()) if several else pipeline.order
    ordered = replace(pipeline, order=order)
    ordered.screened(sample)  # a first prediction takes longer
    with ThreadPoolExecutor(workers) as threads:
        begun = time.perf_counter()
        list(threads.map(ordered.screened, [sample] * workers))
        return order, (time.perf_counter() - begun) / (workers * len(sample))


def _sample(pipeline: Pipeline) -> Compositions:
    """Up to 512 possible compositions that lie evenly in the space."""
    last = max(0, pipeline.space.total - _NEIGHBOURS)
    places = _SAMPLE if pipeline.chemistry is None else _MANY_PLACES
    starts = np.unique(np.linspace(0, last, places).astype(np.int64) // _NEIGHBOURS) * _NEIGHBOURS
    blocks = [pipeline.chosen(start, start + _NEIGHBOURS) for start in starts.tolist()]
    positions = np.concatenate([block.positions for block in blocks])
    amounts = np.concatenate([block.amounts for block in blocks])
    rows = np.linspace(0, len(positions) - 1, min(_SAMPLE, len(positions))).astype(np.int64)
    return Compositions(positions[rows], amounts[rows])


def _cheapest_order(pipeline: Pipeline, fractions: NDArray[np.float64]) -> tuple[str, ...]:
    """Properties by the share of a sample, shape (n, 86), that each drops in a second: that spares the other models."""
    values, seconds = composition_values(fractions), {}
    for name, model in pipeline.models.items():
        found = model.predict(fractions)
        values[name] = found.value
        values |= {f"{name}.{ending}": np.asarray(getattr(found, ending)) for ending in INTERVAL_NAMES}
        begun = time.perf_counter()
        model.predict_within(fractions, *range_of(pipeline.conditions, name))
        seconds[name] = time.perf_counter() - begun

    def dropped(known: tuple[str, ...]) -> float:
        """Share that fails a condition once these properties are known."""
        names = {"n_elements", *ELEMENTS, *known, *(name for one in known for name in _intervals(one))}
        ready = [part(values) for part in pipeline.conditions if part.names <= names]
        held = np.logical_and.reduce(np.broadcast_arrays(np.ones(len(fractions), bool), *ready))
        return float(1 - held.mean())

    order: tuple[str, ...] = ()
    while rest := [name for name in pipeline.models if name not in order]:
        before = dropped(order)
        order += (max(rest, key=lambda name: (dropped((*order, name)) - before) / seconds[name]),)
    return order
