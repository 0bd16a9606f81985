"""From a saved ensemble to the files that predict without Keras and scikit-learn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.errors import ModelFormatError
from crossprop.features.element_tables import keep_element_tables
from crossprop.models.joint import SCALING_FILE
from crossprop.models.onnx_members import compile_member
from crossprop.models.onnx_network import network_to_onnx
from crossprop.models.packed_trees import FOREST, PackedTrees, beside_each_other
from crossprop.models.saved import INFO_FILE, SOURCE_FILE, read_info
from crossprop.vocabulary import Representation

PLAN_FILE = "plan.json"
ELEMENTS_FILE = "elements.npz"


@dataclass(frozen=True)
class Part:
    """One ensemble of a model: the only one, or one that is blended.

    Attributes:
        folder: Where it lies.
        name: Its folder relative to the model's.
        info: What its ``model.json`` holds.
        weights: Weight of each member in its fold's prediction.
    """

    folder: Path
    name: str
    info: dict[str, Any]
    weights: tuple[float, ...]


def parts_of(folder: Path, info: dict[str, Any]) -> list[Part]:
    """The ensembles of a model.

    Raises:
        ModelFormatError: They are incomplete, or weights and members do not match.
    """
    if "parts" not in info:
        return [Part(folder, ".", info, (1.0,) * len(_members(folder, info)))]
    given = info["parts"] if isinstance(info["parts"], dict) else {}
    parts: list[Part] = []
    for name, weights in given.items():
        own = read_info(folder / name)
        if np.shape(weights) != (len(_members(folder / name, own)),):
            parts = []
            break
        parts.append(Part(folder / name, name, own, tuple(float(w) for w in weights)))
    if not parts or len({len(part.weights) for part in parts}) != 1:
        raise ModelFormatError(
            f"{folder}/{INFO_FILE}: parts and weights do not match. Register the model again."
        )
    return parts


def _members(folder: Path, info: dict[str, Any]) -> list[str]:
    members = info.get("members")
    if not members:
        raise ModelFormatError(f"{folder}/{INFO_FILE} lists no members. Register the model again.")
    return list(members)


@dataclass
class _Draft:
    """The files and the plan of a compiled model while it is being written."""

    folder: Path
    representations: list[dict[str, Any]] = field(default_factory=list)
    members: list[dict[str, Any]] = field(default_factory=list)
    trees: dict[str, list[tuple[dict[str, Any], PackedTrees]]] = field(default_factory=dict)

    def representation(self, part: Part) -> int:
        """Number of a part's representation; parts with the same one share it, and with it the source network."""
        entry = dict(self._described(part))
        if entry not in self.representations:
            self.representations.append(entry)
        return self.representations.index(entry)

    def _described(self, part: Part) -> Iterator[tuple[str, Any]]:
        kind = part.info["representation"]
        yield "kind", str(Representation(kind))
        layer, scaling = None, None
        if kind == Representation.ACTIVATIONS:
            layer = part.info["layer"]
        elif kind == Representation.PREDICTED_SOURCES:
            scaling = load_scaling(part.folder / SCALING_FILE)
        else:
            return
        source = part.folder / SOURCE_FILE
        onnx = network_to_onnx(source, layer=layer, scaling=scaling)
        name = f"source_{hashlib.sha256(onnx).hexdigest()[:16]}.onnx"
        (self.folder / name).write_bytes(onnx)
        yield "network", name

    def member(self, part: Part, k: int, representation: int) -> None:
        """Compile one fold model, unless its weight is nothing."""
        if part.weights[k] == 0:
            return
        origin = f"{part.name}/{part.info['members'][k]}"
        compiled = compile_member(part.folder / part.info["members"][k])
        stem = f"member_{len(self.members):03d}"
        for name, array in compiled.arrays.items():
            np.save(self.folder / f"{stem}.{name}.npy", array, allow_pickle=False)
        if compiled.onnx is not None:
            (self.folder / f"{stem}.onnx").write_bytes(compiled.onnx)
        note = compiled.note | {
            "stem": stem,
            "arrays": sorted(compiled.arrays),
            "origin": origin,
            "representation": representation,
            "fold": k,
            "weight": part.weights[k],
        }
        self.members.append(note)
        if compiled.trees is not None:
            note["forest"] = f"trees_{representation:02d}"
            self.trees.setdefault(note["forest"], []).append((note, compiled.trees))

    def plant(self) -> None:
        """Write the trees of all members, those of one representation beside each other."""
        for name, planted in self.trees.items():
            moved = beside_each_other([trees for _, trees in planted])
            first = 0
            for (note, own), trees in zip(planted, moved, strict=True):
                note["trees"] = [first, first + len(trees.roots)]
                note["n_bytes"] = own.nodes.nbytes + own.leaves.nbytes
                first += len(trees.roots)
            shared = moved[0].nodes, np.concatenate([trees.roots for trees in moved]), moved[0].leaves
            for part, array in zip(FOREST, shared, strict=True):
                np.save(self.folder / f"{name}.{part}.npy", array, allow_pickle=False)


def build(folder: Path, destination: Path) -> None:
    """Compile a saved model into an existing, empty folder: ONNX, npy and JSON files.

    Raises:
        ModelFormatError: The model is incomplete, damaged, or holds something that is not trusted.
    """
    parts = parts_of(folder, read_info(folder))
    draft = _Draft(destination)
    for part in parts:
        representation = draft.representation(part)
        for k in range(len(part.weights)):
            draft.member(part, k, representation)
    draft.plant()
    keep_element_tables(destination / ELEMENTS_FILE)
    plan = {
        "n_members": len(parts[0].weights),
        "representations": draft.representations,
        "members": draft.members,
        "forests": sorted(draft.trees),
    }
    (destination / PLAN_FILE).write_text(json.dumps(plan, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_scaling(path: Path) -> np.ndarray:
    """Mean and deviation of a source network's inputs, shape (2, n_features).

    Raises:
        ModelFormatError: The file is missing or damaged.
    """
    try:
        scaling: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}. Register or pull it again.") from error
    return scaling
