"""Transfer from a source network: activations of its layers, or its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.io import check_digests
from crossprop.methods import EXTRACTION_LAYERS, HEAD
from crossprop.models.networks import initial_weights

if TYPE_CHECKING:
    import keras

CHUNK = 1024


def load_network(path: Path) -> keras.Model:
    """Load a saved network, uncompiled, refusing anything but plain Keras layers.

    Raises:
        ModelFormatError: The file is missing, damaged or holds code.
    """
    import keras

    if not path.is_file():
        raise ModelFormatError(
            f"{path} is missing. Run the stage that trains it, or pull it with 'dvc pull'."
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ModelFormatError(f"{path} cannot be loaded as a Keras model: {error}. Restore it.") from error


def extract_activations(
    network: keras.Model, fractions: np.ndarray, layers: Sequence[str] = EXTRACTION_LAYERS
) -> dict[str, np.ndarray]:
    """Activations of named layers of a source network for elemental fractions, shape (n_samples, n_elements).

    Returns:
        For each name an array of shape (n_samples, width of the layer), float32.

    Raises:
        ShapeMismatchError: The fractions have another width than the network's input.
        ModelFormatError: The network lacks one of the layers.
    """
    import keras

    if fractions.ndim != 2 or fractions.shape[1] != network.input_shape[1]:
        raise ShapeMismatchError(
            f"fractions have shape {fractions.shape}, the network takes (n_samples, {network.input_shape[1]})."
        )
    known = {layer.name for layer in network.layers}
    if missing := [name for name in layers if name not in known]:
        raise ModelFormatError(
            f"the source network has no layer {', '.join(missing)}; it has {sorted(known)}."
        )
    extractor = keras.Model(network.input, [network.get_layer(name).output for name in layers])
    parts: list[list[np.ndarray]] = [[] for _ in layers]
    for start in range(0, len(fractions), CHUNK):
        outputs = extractor(np.asarray(fractions[start : start + CHUNK], np.float32), training=False)
        for part, output in zip(parts, outputs if isinstance(outputs, list) else [outputs], strict=True):
            part.append(keras.ops.convert_to_numpy(output))
    widths = [network.get_layer(name).units for name in layers]
    return {
        name: np.concatenate(part) if part else np.zeros((0, width), np.float32)
        for name, part, width in zip(layers, parts, widths, strict=True)
    }


def transferred_weights(
    source: keras.Model, model: keras.Model, seed: int, *, reset_head: bool
) -> list[np.ndarray]:
    """Weights that fine-tuning of ``model`` starts from, in the order of ``model.get_weights()``.

    The architectures are the same. With ``reset_head`` (modified fine-tuning) the head is drawn anew from ``seed`` and
    may have another width; otherwise (fine-tuning) it is the source's.

    Raises:
        ShapeMismatchError: A layer of the one is missing in, or differs from, the other.
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
    check_digests(
        folder, names or None, remedy=f"Delete {folder}, then pull it or pretrain the source again."
    )
