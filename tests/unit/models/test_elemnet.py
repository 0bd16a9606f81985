from __future__ import annotations

import numpy as np
import pytest

from crossprop.methods import EXTRACTION_LAYERS, HEAD
from crossprop.models.networks import build_elemnet, initial_weights

pytestmark = pytest.mark.usefixtures("tensorflow")

WIDTHS = [1024, 1024, 1024, 1024, 512, 512, 512, 256, 256, 256, 128, 128, 128, 64, 64, 32, 1]


@pytest.fixture(scope="module")
def network(tensorflow):
    return build_elemnet(86)


def test_elemnet_has_the_papers_seventeen_layers(network):
    dense = [layer for layer in network.layers if layer.weights]
    assert [layer.units for layer in dense] == WIDTHS
    assert [layer.name for layer in dense] == [*EXTRACTION_LAYERS, HEAD]
    assert [layer.activation.__name__ for layer in dense] == ["relu"] * 16 + ["linear"]
    assert network.input_shape == (None, 86)
    assert network.output_shape == (None, 1)
    assert network.count_params() == 4_631_361
    assert not [layer for layer in network.layers if "dropout" in layer.name]


def test_dropout_follows_the_last_layer_of_each_width():
    names = [layer.name for layer in build_elemnet(86, dropout=0.2).layers]
    assert [name for name in names if name.startswith("dropout")] == [
        "dropout_04", "dropout_07", "dropout_10", "dropout_13", "dropout_15", "dropout_16",
    ]  # fmt: skip
    assert names[names.index("dropout_04") - 1] == "hidden_04"


def test_same_seed_draws_the_same_weights_and_another_seed_others(network):
    first, second, other = (initial_weights(network, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_drawn_weights_fit_the_network_and_its_bounds(network):
    weights = initial_weights(network, 1)
    assert [w.shape for w in weights] == [tuple(v.shape) for v in network.weights]
    assert {w.dtype for w in weights} == {np.dtype(np.float32)}
    kernels, biases = weights[::2], weights[1::2]
    assert not any(bias.any() for bias in biases)
    for kernel in kernels[:-1]:
        bound = np.sqrt(6 / kernel.shape[0])
        assert bound * 0.99 < np.abs(kernel).max() <= bound
    assert np.abs(kernels[-1]).max() <= np.sqrt(1 / 32)


def test_signal_stays_alive_through_all_layers(network):
    network.set_weights(initial_weights(network, 1))
    x = np.random.default_rng(0).dirichlet(np.ones(86), 64).astype(np.float32)
    assert np.asarray(network(x)).std() > 1e-4
