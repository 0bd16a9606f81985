"""What a joint network predicts for its sources, beside the physical attributes."""

from __future__ import annotations

import numpy as np
import pytest

from crossprop.errors import ShapeMismatchError
from crossprop.models.networks import build_resnet, initial_weights
from crossprop.models.saved import beside_predictions

pytestmark = pytest.mark.usefixtures("tensorflow")
SCALING = np.stack([np.full(231, 0.25), np.full(231, 2.0)]).astype(np.float32)


@pytest.fixture(scope="module")
def network(tensorflow):
    network = build_resnet(231, outputs=2)
    network.set_weights(initial_weights(network, 1))
    return network


@pytest.fixture(scope="module")
def combined():
    return np.random.default_rng(0).normal(size=(5, 231)).astype(np.float32)


def test_attributes_stand_first_and_predictions_after_them(network, combined):
    beside = beside_predictions(combined, network, SCALING)
    assert (beside.shape, beside.dtype) == ((5, 147), np.float32)
    assert np.array_equal(beside[:, :145], combined[:, 86:])
    expected = np.asarray(network((combined - 0.25) / 2.0))
    assert beside[:, 145:] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_no_row_gives_an_empty_matrix_of_the_right_width(network):
    assert beside_predictions(np.zeros((0, 231), np.float32), network, SCALING).shape == (0, 147)


@pytest.mark.parametrize("shape", [(3, 145), (3, 86), (231,)])
def test_features_of_another_width_are_refused(network, shape):
    with pytest.raises(ShapeMismatchError, match=r"the network takes \(n_samples, 231\)"):
        beside_predictions(np.zeros(shape, np.float32), network, SCALING)
