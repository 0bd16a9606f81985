"""A saved model that predicts: the fold models of one ensemble, or of several blended ones."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from crossprop.data.compositions import ELEMENTS, checked_fractions
from crossprop.features.magpie import physical_attributes
from crossprop.methods import Representation
from crossprop.models.fitted import FittedModel
from crossprop.models.portable import Network
from crossprop.models.trees import Trees, merged, predict_together

_ROWS_AT_ONCE: Final = 8192  # bounds the memory beyond the result
_FEW: Final = 32  # rows up to which the trees of all members are walked together
# Share of the bounds by which a value may miss a range: sums in another order differ by less.
_SLACK: Final = 1e-9
WITH_ATTRIBUTES: Final = frozenset(
    {Representation.PHYSICAL_ATTRIBUTES, Representation.COMBINED, Representation.PREDICTED_SOURCES}
)
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Source:
    """A representation that members read, with its source network, if any, which parts of a blend share by digest."""

    representation: Representation
    network: Network | None = field(default=None, compare=False)
    layer: str = ""
    digest: str = ""

    def represent(self, small: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        """Elemental fractions and physical attributes, float32, as the representation, shape (n, width)."""
        if self.representation is Representation.ELEMENTAL_FRACTIONS:
            return small
        if self.representation is Representation.PHYSICAL_ATTRIBUTES:
            return attributes
        if self.representation is Representation.ACTIVATIONS:
            assert self.network is not None
            return self.network.outputs(small)
        combined = np.concatenate([small, attributes], axis=1)
        if self.network is None:
            return combined
        return np.concatenate([combined, self.network.outputs(combined)], axis=1)


@dataclass(frozen=True)
class Member:
    """A fold model: index of its source, its fold, its weight there, and the size of its files as cost of a row."""

    model: FittedModel
    source: int
    fold: int
    weight: float
    cost: int


@dataclass(frozen=True)
class Turn:
    """A member, its share in the prediction, and bounds of the sum of the members that are evaluated after it."""

    place: int
    share: float
    least: float
    most: float


class Ensemble:
    """A saved ensemble or blend; immutable, so that threads may share it."""

    def __init__(
        self,
        folder: Path,
        info: Mapping[str, Any],
        sources: Sequence[Source],
        members: Sequence[Member],
        n_folds: int,
        threads: int,
    ) -> None:
        self.folder = folder
        self.info = info
        self.n_folds = n_folds
        self.threads = threads
        self.members = list(members)
        self._sources = sources
        self._groups: list[list[int]] = []
        # the trees of all members that read the same representation are walked together, so they share an array
        for source in range(len(sources)):
            group = [
                place
                for place, member in enumerate(members)
                if member.source == source and isinstance(member.model.body, Trees)
            ]
            if group:
                self._groups.append(group)
                bodies = merged([members[place].model.body for place in group])
                for place, body in zip(group, bodies, strict=True):
                    model = replace(members[place].model, body=body)
                    self.members[place] = replace(members[place], model=model)
        self._turns = turns(self.members, n_folds)

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Mean of the folds' predictions, shape (n_samples,), in the property's unit; as :meth:`predict_members`."""
        return np.asarray(self.predict_members(fractions).mean(axis=0))

    def predict_members(self, fractions: np.ndarray) -> np.ndarray:
        """Predictions of every fold, shape (n_folds, n_samples), in the unit, from fractions (n_samples, 86)."""
        fractions = checked_fractions(fractions)
        predicted = np.zeros((self.n_folds, len(fractions)))
        for start in range(0, len(fractions), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            features = self._represent(fractions[rows])
            predicted[:, rows] = self._combined(self._answers(features))
        return predicted

    def predict_within(self, fractions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of all rows whose prediction may lie within a range, in the unit, and their predictions."""
        fractions = checked_fractions(fractions)
        rows, values = [np.zeros(0, dtype=np.intp)], [np.zeros(0)]
        for start in range(0, len(fractions), _ROWS_AT_ONCE):
            features = self._represent(fractions[start : start + _ROWS_AT_ONCE])

            def ask(place: int, left: np.ndarray, features: list[np.ndarray] = features) -> np.ndarray:
                given = features[self.members[place].source]
                return self._ask(place, given if len(left) == len(given) else given[left])

            left, answers = answers_within(self._turns, len(features[0]), low, high, ask)
            rows.append(start + left)
            values.append(self._combined(answers).mean(axis=0))
        return np.concatenate(rows), np.concatenate(values)

    def _represent(self, fractions: np.ndarray) -> list[np.ndarray]:
        """Every representation that the members read, float32, shapes (n, width)."""
        parts = self._map(self._represent_piece, _pieces(fractions, 512))
        return [np.concatenate(same) for same in zip(*parts, strict=True)]

    def _represent_piece(self, fractions: np.ndarray) -> list[np.ndarray]:
        attributes = small = fractions.astype(np.float32)
        if any(source.representation in WITH_ATTRIBUTES for source in self._sources):
            attributes = _attributes_of(fractions.tobytes())
        return [source.represent(small, attributes) for source in self._sources]

    def _answers(self, features: list[np.ndarray]) -> np.ndarray:
        """Predictions of every member, shape (n_members, n_samples)."""
        answers = np.empty((len(self.members), len(features[0])))
        alone = list(range(len(self.members)))
        if len(features[0]) > _FEW:
            for place in alone:
                answers[place] = self._ask(place, features[self.members[place].source])
            return answers
        for places in self._groups:
            group = [self.members[place] for place in places]
            predicted = predict_together([one.model.body for one in group], features[group[0].source])
            for place, one, values in zip(places, group, predicted, strict=True):
                answers[place] = one.model.in_unit(values)
                alone.remove(place)
        rest = self._map(lambda i: self.members[i].model.predict(features[self.members[i].source]), alone)
        for place, answer in zip(alone, rest, strict=True):
            answers[place] = answer
        return answers

    def _ask(self, place: int, features: np.ndarray) -> np.ndarray:
        """Predictions of one member."""
        model = self.members[place].model
        rows = 256 if isinstance(model.body, Network) else 1024
        return np.concatenate(self._map(model.predict, _pieces(features, rows)))

    def _map(self, function: Callable[[Item], Result], pieces: Sequence[Item]) -> list[Result]:
        threads = min(self.threads, len(pieces))
        if threads <= 1:
            return [function(piece) for piece in pieces]
        with ThreadPoolExecutor(threads, thread_name_prefix="crossprop-predict") as pool:
            return list(pool.map(function, pieces))

    def _combined(self, answers: np.ndarray) -> np.ndarray:
        """Predictions of the folds from those of the members."""
        predicted = np.zeros((self.n_folds, answers.shape[1]))
        for answer, member in zip(answers, self.members, strict=True):
            predicted[member.fold] += member.weight * answer
        return predicted


def turns(members: Sequence[Member], n_folds: int) -> tuple[Turn, ...]:
    """The members in the order that settles most for its cost, those without bounds first."""

    def settled(place: int) -> float:
        low, high = members[place].model.bounds
        return abs(members[place].weight) * (high - low) / max(members[place].cost, 1)

    order, least, most = [], 0.0, 0.0
    for place in sorted(range(len(members)), key=settled):
        share = members[place].weight / n_folds
        order.append(Turn(place, share, least, most))
        ends = [share * bound for bound in members[place].model.bounds]
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
    """Those of n rows whose value may lie within a range, and what ``ask`` says of them, shape (n_members, n_left)."""
    left, so_far, slack = np.arange(n), np.zeros(n), np.zeros(n)
    answers = np.empty((len(order), n))
    for turn in order:
        answers[turn.place, left] = found = ask(turn.place, left)
        so_far, slack = so_far + turn.share * found, slack + _SLACK * np.abs(turn.share * found)
        # a NaN is never dropped
        outside = (so_far + turn.most + slack < low) | (so_far + turn.least - slack > high)
        left, so_far, slack = left[~outside], so_far[~outside], slack[~outside]
        if not len(left):
            break
    return left, answers[:, left]


@lru_cache(maxsize=64)
def _attributes_of(fractions: bytes) -> NDArray[np.float32]:
    """Physical attributes of rows given as bytes: models that predict the same rows compute them once."""
    rows = np.frombuffer(fractions).reshape(-1, len(ELEMENTS))
    attributes = physical_attributes(rows).astype(np.float32)
    attributes.setflags(write=False)
    return attributes


def _pieces(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows in tasks that keep a core busy and stay in its cache; one empty task if there are none."""
    return [rows[start : start + size] for start in range(0, max(len(rows), 1), size)]
