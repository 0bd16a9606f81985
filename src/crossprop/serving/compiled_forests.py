"""Trees of several members in the same files: about few rows they are asked together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossprop.models.packed_trees import FOREST, predict_together
from crossprop.models.tree_walk import BLOCK

if TYPE_CHECKING:
    from crossprop.serving.compiled_members import Member


@dataclass(frozen=True)
class Forest:
    """The trees of all members of one representation; see :class:`~crossprop.models.packed_trees.PackedTrees`."""

    nodes: np.ndarray
    roots: np.ndarray
    leaves: np.ndarray


def load_forests(names: Iterable[str], folder: Path) -> dict[str, Forest]:
    """The forests of a compiled model by name."""
    return {name: Forest(*(mapped(folder / f"{name}.{part}.npy") for part in FOREST)) for name in names}


def mapped(path: Path) -> np.ndarray:
    """An array that stays in its file and is read as it is needed."""
    # a plain view of the mapped file: slicing a memmap itself costs a millisecond or two a prediction
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def together(members: Sequence[Member], rows: int) -> list[list[int]]:
    """Places of the members that are asked together about so many rows: trees, as far as one walk can hold them."""
    groups: list[list[int]] = []
    open_groups: dict[str, list[int]] = {}
    room: dict[str, int] = {}
    for place, member in enumerate(members):
        pairs, forest = rows * member.n_trees, member.forest
        if forest and pairs <= room.get(forest, 0):
            room[forest] -= pairs
            open_groups[forest].append(place)
            continue
        groups.append([place])
        if forest:
            room[forest], open_groups[forest] = BLOCK - pairs, groups[-1]
    return groups


def predict_members(members: Sequence[Member], features: np.ndarray) -> list[np.ndarray]:
    """What each of several members of one forest predicts, as ``Member.predict`` gives it."""
    predicted = predict_together([member.trees for member in members], features)
    return [member.in_unit(one) for member, one in zip(members, predicted, strict=True)]
