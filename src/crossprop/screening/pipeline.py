"""One batch of a screening: chemistry, then property after property, each for the compositions that are left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from crossprop.data.compositions import composition_keys
from crossprop.inference.predictor import ServedModel
from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.conditions import (
    COMPOSITION_NAMES,
    INTERVAL_NAMES,
    Expression,
    composition_values,
    range_of,
)
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
        known = {*self.values, *COMPOSITION_NAMES}
        ready = [part for part in self.open if part.names <= known]
        self.open = tuple(part for part in self.open if part not in ready)
        if ready:
            values = composition_values(self._fractions) | self.values
            held = np.ones(len(self.compositions), dtype=bool)
            for part in ready:
                held &= part(values)
            self._keep(held)

    def _keep(self, rows: np.ndarray) -> None:
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
