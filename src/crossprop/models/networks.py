"""ElemNet (seventeen dense layers from elemental fractions to one property), and the residual network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crossprop.methods import EXTRACTION_LAYERS, HEAD, HIDDEN_UNITS

if TYPE_CHECKING:
    import keras


def build_elemnet(input_size: int, dropout: float = 0.0) -> keras.Model:
    """Build ElemNet with weights still to be set: input ``(batch, input_size)``, output ``(batch, 1)``.

    Dropout layers follow the last layer of each width; 0 leaves them out, as the reference implementation does.

    Source: Jha et al. 2018, doi:10.1038/s41598-018-35934-y; Gupta et al. 2021, Methods.
    """
    import keras

    inputs = keras.Input((input_size,), name="representation")
    x = inputs
    for i, (name, units) in enumerate(zip(EXTRACTION_LAYERS, HIDDEN_UNITS, strict=True)):
        x = keras.layers.Dense(units, activation="relu", name=name)(x)
        if dropout and HIDDEN_UNITS[i + 1 : i + 2] != (units,):
            x = keras.layers.Dropout(dropout, name=f"dropout_{i + 1:02d}")(x)
    head = keras.layers.Dense(1, name=HEAD, dtype="float32")  # whatever the precision of the others
    return keras.Model(inputs, head(x), name="elemnet")


def initial_weights(model: keras.Model, seed: int) -> list[np.ndarray]:
    """Draw weights for every layer, the same ones on every backend.

    Kernels are He-uniform, which keeps the signal through sixteen ReLU layers; biases start at 0, normalisations as
    the identity, the head small, and the last layer of a residual block at a tenth, so that a deep sum of blocks
    begins near its first term. The draw comes from NumPy so that TensorFlow and JAX begin alike.
    """
    rng = np.random.default_rng(seed)
    weights: list[np.ndarray] = []
    for layer in model.layers:
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if len(shape) == 1:
                weights.append(np.full(shape, float(variable.name == "gamma"), np.float32))
                continue
            gain = 1.0 if layer.name == HEAD else 0.06 if layer.name.startswith("outer_") else 6.0
            bound = np.sqrt(gain / shape[0])
            weights.append(rng.uniform(-bound, bound, shape).astype(np.float32))
    return weights


WIDTH = 512
BLOCKS = 5
REPRESENTATION_LAYER = "representation_out"  # what the head reads


def build_resnet(input_size: int, outputs: int = 1, dropout: float = 0.0) -> keras.Model:
    """Build the residual network with weights still to be set: standardised input, output ``(batch, outputs)``.

    Every block normalises its input (pre-LayerNorm) and adds two dense layers to it, with a dropout layer between them
    unless the rate is 0.
    """
    import keras

    inputs = keras.Input((input_size,), name="representation")
    x = keras.layers.Dense(WIDTH, name="entrance")(inputs)
    for i in range(1, BLOCKS + 1):
        y = keras.layers.LayerNormalization(name=f"norm_{i:02d}")(x)
        y = keras.layers.Dense(WIDTH, activation="silu", name=f"inner_{i:02d}")(y)
        if dropout:
            y = keras.layers.Dropout(dropout, name=f"dropout_{i:02d}")(y)
        y = keras.layers.Dense(WIDTH, name=f"outer_{i:02d}")(y)
        x = keras.layers.Add(name=f"sum_{i:02d}")([x, y])
    x = keras.layers.LayerNormalization(name=REPRESENTATION_LAYER)(x)
    head = keras.layers.Dense(outputs, name=HEAD, dtype="float32")
    return keras.Model(inputs, head(x), name="resnet")
