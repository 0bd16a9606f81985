"""One batch of a screening: chemistry, then property after property, each for what is left by then."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS, composition_keys
from crossprop.inference.predictor import Predictions, ServedModel
from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.conditions import INTERVAL_NAMES, Conditions, intervals_of
from crossprop.screening.properties import PropertyModel
from crossprop.screening.space import Compositions, Space

Arrays = dict[str, np.ndarray]
_NOTHING = Predictions(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool), [])


@dataclass(frozen=True)
class Batch:
    """What became of some positions of a space.

    Attributes:
        start: First position.
        stop: Position behind the last one.
        considered: Compositions that were predicted: chemically possible and new.
        kept: The survivors as a table.
    """

    start: int
    stop: int
    considered: int
    kept: pa.RecordBatch


@dataclass(frozen=True)
class Pipeline:
    """All that a batch needs; immutable, shared by the threads.

    Attributes:
        space: Where the compositions come from.
        properties: Models of the properties, in the order of the request.
        models: The loaded models by property.
        order: Order in which the properties are predicted.
        conditions: What a composition must meet.
        chemistry: Which compositions are possible; ``None`` where all are.
        known: Keys of the compositions to leave out.
        rows: Compositions predicted at a time.
    """

    space: Space
    properties: tuple[PropertyModel, ...]
    models: Mapping[str, ServedModel]
    order: tuple[str, ...]
    conditions: Conditions
    chemistry: ChargeBalance | None = None
    known: frozenset[str] = frozenset()
    rows: int = 2048

    def run(self, start: int, stop: int) -> Batch:
        """Screen the positions from one to before another."""
        chosen = self.chosen(start, stop)
        tables = [self.screened(chosen[i : i + self.rows]) for i in range(0, len(chosen), self.rows)]
        kept = pa.Table.from_batches(tables, schema(self.properties)).combine_chunks().to_batches()
        whole = kept[0] if kept else pa.RecordBatch.from_pylist([], schema(self.properties))
        return Batch(start, stop, len(chosen), whole)

    def chosen(self, start: int, stop: int) -> Compositions:
        """The compositions that are worth a prediction."""
        compositions = self.space.block(start, stop)
        if self.chemistry is not None:
            compositions = compositions[self.chemistry.keep(compositions)]
        if self.known and len(compositions):
            keys = composition_keys(compositions.fractions())
            compositions = compositions[np.array([key not in self.known for key in keys], dtype=bool)]
        return compositions

    def screened(self, compositions: Compositions) -> pa.RecordBatch:
        """Those of some compositions that meet the conditions, as a table."""
        work = _Work(compositions, self.conditions)
        work.check()
        for name in self.order:
            work.predict(name, self.models[name])
            work.check()
            for awaited in work.awaited():
                work.judge(awaited, self.models[awaited])
            work.check()
        for name in self.order:
            work.judge(name, self.models[name])
        return self._table(work)

    def _table(self, work: _Work) -> pa.RecordBatch:
        columns: list[object] = [
            work.compositions.positions,
            work.compositions.formulas(),
            work.compositions.n_elements.astype(np.int8),
        ]
        for model in self.properties:
            own = (model.name, *(f"{model.name}.{ending}" for ending in INTERVAL_NAMES))
            columns += [work.values[name] for name in own]
        names = [model.name for model in self.properties]
        notes = [
            "; ".join(f"{name}: {note}" for name, note in zip(names, row, strict=True) if note)
            for row in zip(*(work.notes[name] for name in names), strict=True)
        ]
        arrays = [
            pa.array(column, field.type)
            for column, field in zip([*columns, notes], schema(self.properties), strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=schema(self.properties))


class _Work:
    """The compositions of a batch that are left, and what is known about them."""

    def __init__(self, compositions: Compositions, conditions: Conditions) -> None:
        self.compositions = compositions
        self.done = Conditions()
        self.values: Arrays = {}
        self.notes: dict[str, np.ndarray] = {}
        self._conditions = conditions
        self._predicted: list[str] = []
        self._fractions = compositions.fractions()

    def check(self) -> None:
        """Check what can be checked by now; what fails is gone."""
        ready = self._conditions.ready(self.values).without(self.done)
        if not ready.parts:
            return
        held = ready.hold(self.all_values(ready), len(self.compositions))
        self.done = Conditions(self.done.parts + ready.parts)
        if not held.all():
            self._keep(held)

    def _keep(self, rows: np.ndarray) -> None:
        self.compositions, self._fractions = self.compositions[rows], self._fractions[rows]
        self.values = {name: array[rows] for name, array in self.values.items()}
        self.notes = {name: array[rows] for name, array in self.notes.items()}

    def all_values(self, needed: Conditions) -> Mapping[str, np.ndarray]:
        """Values of properties and of what the composition itself tells."""
        wanted = {name for part in needed.parts for name in part.names} - set(self.values)
        own = {name: self._fractions[:, ELEMENTS.index(name)] for name in wanted if name in ELEMENTS}
        return {**self.values, **own, "n_elements": self.compositions.n_elements}

    def awaited(self) -> list[str]:
        """Predicted properties whose intervals are all that some condition still needs."""
        within_reach = {*self.values, *(name for p in self._predicted for name in intervals_of(p))}
        open_parts = self._conditions.ready(within_reach).without(self.done).parts
        needed = {name for part in open_parts for name in part.names}
        return [p for p in self._predicted if p not in self.notes and needed & intervals_of(p)]

    def predict(self, name: str, model: ServedModel) -> None:
        """Predict a property of what is left; what certainly fails a condition on it is gone."""
        self._predicted.append(name)
        if not len(self.compositions):
            self.values[name] = np.zeros(0)
            return
        left, values = model.predict_within(self._fractions, *self._conditions.range_of(name))
        if len(left) < len(self.compositions):
            self._keep(left)
        self.values[name] = values

    def judge(self, name: str, model: ServedModel) -> None:
        """Have the intervals of a predicted property for what is left, and the word on the domain."""
        if name not in self.notes:
            found = judged(model, self._fractions, self.values[name])
            self.values |= {
                f"{name}.{ending}": np.asarray(getattr(found, ending)) for ending in INTERVAL_NAMES
            }
            self.notes[name] = np.array(found.note or [], dtype=object)


@dataclass(frozen=True)
class _Predicted:
    """An ensemble that has predicted already."""

    info: Mapping[str, Any]
    values: np.ndarray

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        return self.values


def judged(model: ServedModel, fractions: np.ndarray, values: np.ndarray) -> Predictions:
    """Intervals and domain of predictions that are at hand, without predicting them again."""
    if not len(values):
        return _NOTHING
    return replace(model, predictor=_Predicted(model.info, values)).predict(fractions)


def schema(properties: tuple[PropertyModel, ...]) -> pa.Schema:
    """Columns of the survivors' table; those of a property carry its unit, model and coverage as metadata."""
    fields = [
        pa.field("position", pa.int64()),
        pa.field("formula", pa.string()),
        pa.field("n_elements", pa.int8()),
    ]
    for model in properties:
        said = {"unit": model.unit, "model": f"{model.model} {model.version}".strip()}
        fields.append(pa.field(model.column, pa.float64(), metadata=said))
        said |= {"coverage": f"{model.coverage:g}"}
        fields += [
            pa.field(f"{model.column}_{end}", pa.float64(), metadata=said) for end in ("lower", "upper")
        ]
        fields.append(pa.field(f"{model.column}_in_domain", pa.bool_()))
    return pa.schema([*fields, pa.field("note", pa.string())])


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
