"""The residual network: its shape, its initial weights, and what is transferred from it."""

from __future__ import annotations

import numpy as np
import pytest

from crossprop.errors import ShapeMismatchError
from crossprop.methods import HEAD
from crossprop.models.fitted import CHUNK, network_output, network_outputs, save_network
from crossprop.models.networks import (
    BLOCKS,
    REPRESENTATION_LAYER,
    WIDTH,
    build_resnet,
    initial_weights,
)
from crossprop.models.saved import beside_predictions
from crossprop.models.transfer import load_network, transferred_weights, weights_digest

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.fixture(scope="module")
def network(tensorflow):
    network = build_resnet(231, outputs=3)
    network.set_weights(initial_weights(network, 1))
    return network


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(7, 231)).astype(np.float32)


def named(network):
    """Weights by layer and variable."""
    return dict(zip([variable.path for variable in network.weights], network.get_weights(), strict=True))


def by_hand(network, x):
    """Forward pass in float64: entrance, normalised blocks that add, normalised head."""
    weights = {path: w.astype(np.float64) for path, w in named(network).items()}

    def dense(name, x):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def normalised(name, x):
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-3)
        return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    x = dense("entrance", x.astype(np.float64))
    for i in range(1, BLOCKS + 1):
        inner = dense(f"inner_{i:02d}", normalised(f"norm_{i:02d}", x))
        x = x + dense(f"outer_{i:02d}", inner / (1 + np.exp(-inner)))
    return dense(HEAD, normalised(REPRESENTATION_LAYER, x))


def test_output_is_what_a_hand_computation_gives(network, features):
    assert np.asarray(network(features)) == pytest.approx(by_hand(network, features), rel=1e-3, abs=1e-4)


def test_number_of_weights_is_the_sum_over_the_layers(network):
    block = 2 * WIDTH + 2 * (WIDTH + 1) * WIDTH
    expected = (231 + 1) * WIDTH + BLOCKS * block + 2 * WIDTH + (WIDTH + 1) * 3
    assert network.count_params() == expected == 1_276_803


def test_there_is_no_dropout_unless_asked_for(network):
    assert not [layer for layer in network.layers if "dropout" in layer.name]
    names = [layer.name for layer in build_resnet(231, dropout=0.1).layers]
    assert [n for n in names if "dropout" in n] == [f"dropout_{i:02d}" for i in range(1, BLOCKS + 1)]


def test_initial_weights_fit_the_network_and_leave_the_blocks_small(network):
    drawn = dict(zip(named(network), initial_weights(network, 5), strict=True))
    for path, weights in drawn.items():
        layer, kind = path.split("/")
        assert weights.shape == named(network)[path].shape
        assert weights.dtype == np.float32
        if kind == "gamma":
            assert (weights == 1).all()
        elif kind in ("beta", "bias"):
            assert (weights == 0).all()
        else:
            full = np.sqrt(6 / weights.shape[0])
            bound = {HEAD: np.sqrt(1 / WIDTH)}.get(layer, 0.1 * full if layer.startswith("outer") else full)
            assert 0.9 * bound < np.abs(weights).max() <= bound


def test_transfer_keeps_everything_but_the_head_which_may_have_another_width(network):
    target = build_resnet(231)
    target.set_weights(transferred_weights(network, target, seed=9, reset_head=True))
    given, taken = named(network), named(target)
    assert {path for path in taken if not np.array_equal(taken[path], given[path])} <= {
        f"{HEAD}/kernel", f"{HEAD}/bias",
    }  # fmt: skip
    assert taken[f"{HEAD}/kernel"].shape == (WIDTH, 1)
    drawn = dict(zip(taken, initial_weights(target, 9), strict=True))
    assert np.array_equal(taken[f"{HEAD}/kernel"], drawn[f"{HEAD}/kernel"])


def test_head_of_another_width_cannot_be_kept(network):
    with pytest.raises(ShapeMismatchError, match=r"layer head has weights \[\(384, 1\), \(1,\)\]"):
        transferred_weights(network, build_resnet(231), seed=9, reset_head=False)


def test_outputs_come_chunk_by_chunk_as_at_once(network, features):
    many = np.tile(features, (CHUNK // 7 + 2, 1))
    outputs = network_outputs(network, many)
    assert outputs.shape == (len(many), 3)
    assert outputs[:7] == pytest.approx(np.asarray(network(features)), rel=1e-4, abs=1e-5)
    assert outputs[-7:] == pytest.approx(outputs[:7], rel=1e-4, abs=1e-5)


def test_no_row_has_an_output_of_the_right_width(network):
    nothing = network_outputs(network, np.zeros((0, 231), np.float32))
    assert (nothing.shape, nothing.dtype) == ((0, 3), np.float32)
    assert network_output(build_resnet(231), np.zeros((0, 231), np.float32)).shape == (0,)


def test_saved_joint_network_keeps_its_weights(network, tmp_path):
    save_network(network, tmp_path / "network.keras")
    assert weights_digest(load_network(tmp_path / "network.keras")) == weights_digest(network)


SCALING = np.stack([np.full(231, 0.25), np.full(231, 2.0)]).astype(np.float32)


@pytest.mark.parametrize("rows", [0, 5])
def test_predictions_of_a_joint_network_come_after_fractions_and_attributes(network, features, rows):
    beside = beside_predictions(features[:rows], network, SCALING)
    assert (beside.shape, beside.dtype) == ((rows, 234), np.float32)
    assert np.array_equal(beside[:, :231], features[:rows])
    expected = np.asarray(network((features - 0.25) / 2.0))[:rows]
    assert beside[:, 231:] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("shape", [(3, 145), (231,)])
def test_features_of_another_width_are_refused(network, shape):
    with pytest.raises(ShapeMismatchError, match=r"the network takes \(n_samples, 231\)"):
        beside_predictions(np.zeros(shape, np.float32), network, SCALING)
