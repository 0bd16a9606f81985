"""Transfer of the weights of a source network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.io import check_digests
from crossprop.methods import HEAD
from crossprop.models.networks import initial_weights

if TYPE_CHECKING:
    import keras


def load_network(path: Path) -> keras.Model:
    """Load a saved network, uncompiled, refusing anything but plain Keras layers (ModelFormatError)."""
    import keras

    if not path.is_file():
        raise ModelFormatError(f"{path} is missing. Run the stage that trains it, or 'dvc pull'.")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelFormatError(f"{path} cannot be loaded as a Keras model: {error}. Restore it.") from error


def transferred_weights(source: keras.Model, model: keras.Model, seed: int, *, reset_head: bool) -> list[np.ndarray]:
    """Weights that fine-tuning of ``model`` starts from; layers that differ are refused (ShapeMismatchError).

    With ``reset_head`` (modified fine-tuning) the head is drawn anew from ``seed`` and may have another width.
    """
    fresh = iter(initial_weights(model, seed))
    weights: list[np.ndarray] = []
    donors = {layer.name: layer.get_weights() for layer in source.layers if layer.weights}
    for layer in model.layers:
        drawn = [next(fresh) for _ in layer.weights]
        if not drawn:
            continue
        given = donors.pop(layer.name, None)
        renewed = reset_head and layer.name == HEAD
        if given is None or not (renewed or [g.shape for g in given] == [d.shape for d in drawn]):
            shapes = None if given is None else [g.shape for g in given]
            raise ShapeMismatchError(
                f"layer {layer.name} has weights {[d.shape for d in drawn]}, the source network has {shapes}."
            )
        weights += drawn if renewed else given
    if donors:
        raise ShapeMismatchError(f"the source network has layers that the target lacks: {sorted(donors)}.")
    return weights


def weights_digest(network: keras.Model) -> str:
    """SHA-256 over the names, shapes and values of all weights: the identity of a network."""
    digest = hashlib.sha256()
    for layer in network.layers:
        for i, array in enumerate(layer.get_weights()):
            digest.update(f"{layer.name}/{i}:{array.shape}:{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_network(folder: Path, *names: str) -> None:
    """Refuse files of a source network's folder, by default all, that have changed since they were written."""
    check_digests(folder, names or None, remedy=f"Delete {folder}, then pull it or pretrain the source again.")
