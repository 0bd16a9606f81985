"""A residual network on elemental fractions beside physical attributes: smaller than ElemNet, quicker to learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossprop.vocabulary import HEAD

if TYPE_CHECKING:
    import keras

WIDTH = 384
BLOCKS = 4
REPRESENTATION_LAYER = "representation_out"
"""Name of the layer that the head reads."""


def build_resnet(input_size: int, outputs: int = 1, dropout: float = 0.0) -> keras.Model:
    """Build the network with weights still to be set.

    Every block normalises its input (pre-LayerNorm), widens nothing, and adds two dense layers to what it was given,
    so that the signal reaches the head whatever the blocks do.

    Args:
        input_size: Width of the representation: 231 for fractions beside attributes.
        outputs: Number of properties that are predicted at once.
        dropout: Rate of a dropout layer within each block; 0 leaves them out.

    Input shape:
        ``(batch, input_size)``, standardised.

    Output shape:
        ``(batch, outputs)``: the properties in the transformed scales that the network was fitted to.
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
    return keras.Model(inputs, keras.layers.Dense(outputs, name=HEAD)(x), name="resnet")
