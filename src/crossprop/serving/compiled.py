"""A saved ensemble compiled for serving: the same predictions, many times faster, without Keras and scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import CrosspropError, DataError, ModelFormatError, ShapeMismatchError
from crossprop.features.element_tables import restore_element_tables
from crossprop.models.saved import read_info
from crossprop.serving.compiled_bounds import answers_within, turns
from crossprop.serving.compiled_build import ELEMENTS_FILE, PLAN_FILE, build
from crossprop.serving.compiled_cache import entry
from crossprop.serving.compiled_forests import load_forests, predict_members, together
from crossprop.serving.compiled_members import Member
from crossprop.serving.compiled_work import Task, available_threads, run_tasks
from crossprop.serving.representations import WITH_ATTRIBUTES, Source, represent

_ROWS_AT_ONCE = 8192
"""Rows that are worked on together: bounds the memory beyond the result to about 20 MiB."""


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
        self._sources = [Source.load(described, place) for described in plan["representations"]]
        forests = load_forests(plan["forests"], place)
        members = [Member(note, place, folder, forests) for note in plan["members"]]
        self._members = sorted(members, key=lambda member: -member.cost)
        self._turns = turns(self._members, self._n_members)
        if any(source.kind in WITH_ATTRIBUTES for source in self._sources):
            restore_element_tables(place / ELEMENTS_FILE)

    def predict_members(self, fractions: np.ndarray) -> np.ndarray:
        """Predictions of every fold, shape (n_members, n_samples), in the property's unit.

        Args:
            fractions: Elemental fractions, float64, shape (n_samples, 86).

        Raises:
            ShapeMismatchError: The fractions have another shape.
            DataError: A row is no composition, and the model reads physical attributes.
        """
        fractions = _checked(fractions)
        predicted = np.zeros((self._n_members, len(fractions)))
        for start in range(0, len(fractions), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            self._predict_into(predicted[:, rows], fractions[rows])
        return predicted

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Mean of the folds' predictions, shape (n_samples,), in the property's unit; as :meth:`predict_members`."""
        mean: np.ndarray = self.predict_members(fractions).mean(axis=0)
        return mean

    def predict_within(self, fractions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Predict the rows whose prediction may lie within a range; the others cost a part of the work, or little.

        Args:
            fractions: Elemental fractions, float64, shape (n_samples, 86).
            low: Lower end of the range, in the property's unit; may be infinite.
            high: Upper end.

        Returns:
            Numbers of the rows that are left, shape (n_left,), among them all whose prediction lies in the range; and
            their predictions as :meth:`predict` gives them, same shape.
        """
        fractions = _checked(fractions)
        rows, values = [np.zeros(0, dtype=np.intp)], [np.zeros(0)]
        for start in range(0, len(fractions), _ROWS_AT_ONCE):
            features = represent(self._sources, fractions[start : start + _ROWS_AT_ONCE], self.threads)
            ask = partial(self._ask, features)
            left, answers = answers_within(self._turns, len(features[0]), low, high, ask)
            rows.append(start + left)
            predicted = np.zeros((self._n_members, len(left)))
            self._combine(answers, predicted)
            values.append(predicted.mean(axis=0))
        return np.concatenate(rows), np.concatenate(values)

    def _ask(self, features: list[np.ndarray], place: int, left: np.ndarray) -> np.ndarray:
        member = self._members[place]
        given = features[member.representation]
        given = given if len(left) == len(given) else given[left]
        answer = np.empty(len(given))
        run_tasks(_tasks(member, given, answer), self.threads)
        return answer

    def _predict_into(self, predicted: np.ndarray, fractions: np.ndarray) -> None:
        features = represent(self._sources, fractions, self.threads)
        answers = np.empty((len(self._members), len(fractions)))
        tasks: list[Task] = []
        for places in together(self._members, len(fractions)):
            member = self._members[places[0]]
            given = features[member.representation]
            if len(places) == 1:
                tasks += _tasks(member, given, answers[places[0]])
            else:
                tasks.append(
                    partial(_answer_together, [self._members[i] for i in places], given, answers, places)
                )
        run_tasks(tasks, self.threads)
        self._combine(answers, predicted)

    def _combine(self, answers: np.ndarray, predicted: np.ndarray) -> None:
        for answer, member in zip(answers, self._members, strict=True):
            predicted[member.fold] += member.weight * answer


def load_compiled(
    folder: Path | str,
    *,
    cache: Path | None = None,
    threads: int | None = None,
    compile_apart: Callable[[], None] | None = None,
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
        compile_apart: Has another process compile the model into the cache, where that has not been done.

    Raises:
        ModelFormatError: The folder is no saved model, of another format, or damaged.
        StoreError: The cache cannot be written.
        DataError: The number of threads is less than one.
    """
    folder = Path(folder)
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}, but a prediction needs at least one. Give 1 or more.")
    place = entry(folder, build, cache, compile_apart)
    info = read_info(folder)
    try:
        return CompiledPredictor(folder, info, place, threads or available_threads())
    except CrosspropError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(
            f"{place}, made from {folder}, cannot be read: {error!r}. Delete it; it is made again."
        ) from error


def _checked(fractions: np.ndarray) -> np.ndarray:
    fractions = np.asarray(fractions, dtype=np.float64)
    if fractions.ndim != 2 or fractions.shape[1] != len(ELEMENTS):
        raise ShapeMismatchError(
            f"fractions have shape {fractions.shape}; (n_samples, {len(ELEMENTS)}) is needed."
        )
    return fractions


def _tasks(member: Member, features: np.ndarray, into: np.ndarray) -> list[Task]:
    """A member's answers for all rows, in pieces that keep a core busy and stay in its cache."""
    pieces = [slice(start, start + member.rows) for start in range(0, len(features), member.rows)]
    return [partial(_answer, member, features[rows], into[rows]) for rows in pieces]


def _answer(member: Member, features: np.ndarray, into: np.ndarray) -> None:
    into[:] = member.predict(features)


def _answer_together(
    members: list[Member], features: np.ndarray, answers: np.ndarray, places: list[int]
) -> None:
    answers[places] = predict_members(members, features)
