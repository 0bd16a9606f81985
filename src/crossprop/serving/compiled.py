"""A saved ensemble compiled for serving: the same predictions, many times faster, without Keras and scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import CrosspropError, DataError, ModelFormatError, ShapeMismatchError
from crossprop.features.element_tables import restore_element_tables
from crossprop.features.physical_attributes import physical_attributes
from crossprop.models.saved import read_info
from crossprop.serving.compiled_build import ELEMENTS_FILE, PLAN_FILE, build
from crossprop.serving.compiled_cache import entry
from crossprop.serving.compiled_members import Member, Network
from crossprop.serving.compiled_work import Task, available_threads, run_tasks
from crossprop.vocabulary import Representation

_ROWS_AT_ONCE = 8192
"""Rows that are worked on together: bounds the memory beyond the result to about 20 MiB."""

_ROWS_TO_REPRESENT = 512
_WITH_ATTRIBUTES = frozenset(
    {Representation.PHYSICAL_ATTRIBUTES, Representation.COMBINED, Representation.PREDICTED_SOURCES}
)


@dataclass(frozen=True)
class _Source:
    """A representation of the plan, with its source network where it has one."""

    kind: Representation
    network: Network | None


class CompiledPredictor:
    """A compiled ensemble or blend; immutable, so that threads may share it.

    Its predictions are those of ``crossprop.models.saved.load_predictor`` to within float32's rounding (networks) or
    exactly (trees).

    Attributes:
        folder: Where the saved ensemble lies.
        info: What its ``model.json`` holds.
        threads: Threads that one prediction uses at most.
        n_bytes: Size of the compiled files, which is about the memory that they take.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any], place: Path, threads: int) -> None:
        self.folder = folder
        self.info = info
        self.threads = threads
        self.n_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        plan = json.loads((place / PLAN_FILE).read_text(encoding="utf-8"))
        self._n_members = int(plan["n_members"])
        self._sources = [_load_source(entry, place) for entry in plan["representations"]]
        members = [Member(note, place, folder) for note in plan["members"]]
        self._members = sorted(members, key=lambda member: -member.cost)
        if any(source.kind in _WITH_ATTRIBUTES for source in self._sources):
            restore_element_tables(place / ELEMENTS_FILE)

    def predict_members(self, fractions: np.ndarray) -> np.ndarray:
        """Predictions of every fold, shape (n_members, n_samples), in the property's unit.

        Args:
            fractions: Elemental fractions, float64, shape (n_samples, 86).

        Raises:
            ShapeMismatchError: The fractions have another shape.
            DataError: A row is no composition, and the model reads physical attributes.
        """
        fractions = np.asarray(fractions, dtype=np.float64)
        if fractions.ndim != 2 or fractions.shape[1] != len(ELEMENTS):
            raise ShapeMismatchError(
                f"fractions have shape {fractions.shape}; (n_samples, {len(ELEMENTS)}) is needed."
            )
        predicted = np.zeros((self._n_members, len(fractions)))
        for start in range(0, len(fractions), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            self._predict_into(predicted[:, rows], fractions[rows])
        return predicted

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Mean of the folds' predictions, shape (n_samples,), in the property's unit; as :meth:`predict_members`."""
        mean: np.ndarray = self.predict_members(fractions).mean(axis=0)
        return mean

    def _predict_into(self, predicted: np.ndarray, fractions: np.ndarray) -> None:
        features = self._represent(fractions)
        answers = np.empty((len(self._members), len(fractions)))
        tasks: list[Task] = []
        for answer, member in zip(answers, self._members, strict=True):
            given = features[member.representation]
            for start in range(0, len(fractions), member.rows):
                rows = slice(start, start + member.rows)
                tasks.append(partial(_answer, member, given[rows], answer[rows]))
        run_tasks(tasks, self.threads)
        for answer, member in zip(answers, self._members, strict=True):
            predicted[member.fold] += member.weight * answer

    def _represent(self, fractions: np.ndarray) -> list[np.ndarray]:
        """Every representation of the plan; what several have in common is computed once."""
        small = fractions.astype(np.float32)
        pieces: list[list[np.ndarray]] = []
        tasks: list[Task] = []
        for start in range(0, len(fractions), _ROWS_TO_REPRESENT):
            rows = slice(start, start + _ROWS_TO_REPRESENT)
            pieces.append([])
            tasks.append(partial(self._represent_rows, fractions[rows], small[rows], pieces[-1]))
        run_tasks(tasks, self.threads)
        return [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)]

    def _represent_rows(self, fractions: np.ndarray, small: np.ndarray, given: list[np.ndarray]) -> None:
        kinds = {source.kind for source in self._sources}
        attributes = combined = small
        if kinds & _WITH_ATTRIBUTES:
            attributes = physical_attributes(fractions).astype(np.float32)
            combined = np.concatenate([small, attributes], axis=1)
        for source in self._sources:
            if source.kind is Representation.ELEMENTAL_FRACTIONS:
                given.append(small)
            elif source.kind is Representation.PHYSICAL_ATTRIBUTES:
                given.append(attributes)
            elif source.kind is Representation.COMBINED:
                given.append(combined)
            else:
                assert source.network is not None
                if source.kind is Representation.ACTIVATIONS:
                    given.append(source.network.outputs(small))
                else:
                    given.append(np.concatenate([attributes, source.network.outputs(combined)], axis=1))


def load_compiled(
    folder: Path | str, *, cache: Path | None = None, threads: int | None = None
) -> CompiledPredictor:
    """Load a saved ensemble or blend for serving, compiling it where that has not been done.

    Compiled files are kept under a digest of the model's files. They hold numbers and graphs of known operators, no
    code; a damaged one is made again. With them at hand neither Keras nor scikit-learn is imported, but for members
    that have no faster form.

    Args:
        folder: A saved model.
        cache: Where compiled files are kept; by default the folder that the environment variable ``CROSSPROP_CACHE``
            names, or ``.crossprop/compiled`` under the current one.
        threads: Threads that one prediction uses at most; by default one for each core.

    Raises:
        ModelFormatError: The folder is no saved model, of another format, or damaged.
        StoreError: The cache cannot be written.
        DataError: The number of threads is less than one.
    """
    folder = Path(folder)
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}, but a prediction needs at least one. Give 1 or more.")
    info = read_info(folder)
    place = entry(folder, build, cache)
    try:
        return CompiledPredictor(folder, info, place, threads or available_threads())
    except CrosspropError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(
            f"{place}, made from {folder}, cannot be read: {error!r}. Delete it; it is made again."
        ) from error


def _load_source(described: Mapping[str, Any], place: Path) -> _Source:
    network = Network(place / described["network"]) if "network" in described else None
    return _Source(Representation(described["kind"]), network)


def _answer(member: Member, features: np.ndarray, into: np.ndarray) -> None:
    into[:] = member.predict(features)
