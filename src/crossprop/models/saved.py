"""A target's model as it is stored and served: an ensemble of fold models behind one representation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.methods import Representation
from crossprop.models.fitted import FittedModel, network_outputs, standardised
from crossprop.models.transfer import extract_activations, load_network

if TYPE_CHECKING:
    import keras

SCALING_FILE = "scaling.npy"
"""Lies beside a network that takes standardised inputs."""


def beside_predictions(combined: np.ndarray, network: keras.Model, scaling: np.ndarray) -> np.ndarray:
    """Physical attributes beside what a joint network predicts for its sources.

    Args:
        combined: Fractions beside attributes, shape (n_samples, 231).
        network: A joint network.
        scaling: Mean and deviation of its inputs, shape (2, 231).

    Returns:
        Shape (n_samples, 145 + n_sources), float32; predictions in the transformed scales of the network.

    Raises:
        ShapeMismatchError: The network takes another width.
    """
    if combined.ndim != 2 or combined.shape[1] != network.input_shape[1]:
        raise ShapeMismatchError(
            f"features have shape {combined.shape}, the network takes (n_samples, {network.input_shape[1]})."
        )
    predictions = network_outputs(network, standardised(combined, scaling))
    attributes = combined[:, len(ELEMENTS) :]
    return np.concatenate([attributes, predictions], axis=1).astype(np.float32)


FORMAT = 2
"""Written by this version: the folder carries evidence of how well the model predicts."""
READABLE_FORMATS = (1, 2)
INFO_FILE = "model.json"
SOURCE_FILE = "source.keras"


@dataclass
class Predictor:
    """A saved ensemble that takes elemental fractions.

    Attributes:
        folder: Where the ensemble lies.
        info: What ``model.json`` holds.
        members: The fold models.
    """

    folder: Path
    info: dict[str, Any]
    members: list[FittedModel]

    @cached_property
    def _source(self) -> Any:
        return load_network(self.folder / SOURCE_FILE)

    @cached_property
    def _scaling(self) -> np.ndarray:
        path = self.folder / SCALING_FILE
        try:
            scaling: np.ndarray = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ModelFormatError(f"{path} cannot be read: {error}. Register or pull it again.") from error
        return scaling

    def represent(self, fractions: np.ndarray) -> np.ndarray:
        """Turn fractions of shape (n_samples, n_elements) into the representation that the members take."""
        fractions = np.asarray(fractions)
        representation = self.info["representation"]
        small = fractions.astype(np.float32)
        if representation == Representation.ACTIVATIONS:
            layer = self.info["layer"]
            return extract_activations(self._source, small, [layer])[layer]
        if representation == Representation.ELEMENTAL_FRACTIONS:
            return small
        from crossprop.features.magpie import physical_attributes

        attributes = physical_attributes(fractions.astype(np.float64)).astype(np.float32)
        if representation == Representation.PHYSICAL_ATTRIBUTES:
            return attributes
        combined = np.concatenate([small, attributes], axis=1)
        if representation == Representation.COMBINED:
            return combined
        return beside_predictions(combined, self._source, self._scaling)

    def predict_members(self, fractions: np.ndarray) -> np.ndarray:
        """Predictions of every member, shape (n_members, n_samples), in the property's unit."""
        features = self.represent(fractions)
        return np.stack([member.predict(features) for member in self.members])

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Mean of the members' predictions, shape (n_samples,), in the property's unit."""
        return self.predict_members(fractions).mean(axis=0)


@dataclass
class BlendedPredictor:
    """A saved blend: the mean of other ensembles, with weights for every fold.

    Attributes:
        folder: Where the blend lies.
        info: What ``model.json`` holds.
        parts: The blended ensembles.
    """

    folder: Path
    info: dict[str, Any]
    parts: list[Predictor]

    def predict_members(self, fractions: np.ndarray) -> np.ndarray:
        """Predictions of every fold's blend, shape (n_members, n_samples), in the property's unit."""
        weights = np.array(list(self.info["parts"].values()))[:, :, None]
        predicted = np.stack([part.predict_members(fractions) for part in self.parts])
        blended: np.ndarray = (weights * predicted).sum(axis=0)
        return blended

    def predict(self, fractions: np.ndarray) -> np.ndarray:
        """Mean of the members' predictions, shape (n_samples,), in the property's unit."""
        return self.predict_members(fractions).mean(axis=0)


def load_predictor(folder: Path | str) -> Predictor | BlendedPredictor:
    """Load a saved ensemble, or a blend of several.

    Raises:
        ModelFormatError: The folder is no saved model, of another format, or damaged.
    """
    folder = Path(folder)
    info = read_info(folder)
    if "parts" not in info:
        return _load_ensemble(folder, info)
    weights = info["parts"] if isinstance(info["parts"], dict) else {}
    parts = [_load_ensemble(folder / name, read_info(folder / name)) for name in weights]
    shapes = [np.shape(given) for given in weights.values()]
    if not parts or shapes != [(len(part.members),) for part in parts]:
        raise ModelFormatError(
            f"{folder}/{INFO_FILE}: parts and weights do not match. Register the model again."
        )
    return BlendedPredictor(folder, info, parts)


def read_info(folder: Path) -> dict[str, Any]:
    """Content of a saved model's ``model.json``.

    Raises:
        ModelFormatError: There is none that can be read, or it is of another format.
    """
    try:
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(
            f"{folder} holds no readable {INFO_FILE}: {error}. Is it a crossprop model?"
        ) from error
    found = info.get("format") if isinstance(info, dict) else type(info).__name__
    if found not in READABLE_FORMATS:
        readable = " and ".join(map(str, READABLE_FORMATS))
        raise ModelFormatError(f"{folder} has format {found!r}; this version of crossprop reads {readable}.")
    return dict(info)


def _load_ensemble(folder: Path, info: dict[str, Any]) -> Predictor:
    if not info.get("members"):
        raise ModelFormatError(f"{folder}/{INFO_FILE} lists no members. Register the model again.")
    return Predictor(folder, info, [FittedModel.load(folder / name) for name in info["members"]])
