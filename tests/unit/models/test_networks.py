"""ElemNet and the residual network: their shape, their initial weights, and what they compute."""

import numpy as np
import pytest

from crossprop.methods import EXTRACTION_LAYERS, HEAD
from crossprop.models import networks
from crossprop.models.fitted import CHUNK, network_outputs
from crossprop.report.network_figure import elemnet_parameters, resnet_parameters

pytestmark = pytest.mark.usefixtures("tensorflow")
WIDTHS = [1024, 1024, 1024, 1024, 512, 512, 512, 256, 256, 256, 128, 128, 128, 64, 64, 32, 1]
FEATURES = np.random.default_rng(0).normal(size=(7, 231)).astype(np.float32)


@pytest.fixture(scope="module")
def elemnet(tensorflow):
    network = networks.build_elemnet(86)
    network.set_weights(networks.initial_weights(network, 1))
    return network


@pytest.fixture(scope="module")
def resnet(tensorflow):
    network = networks.build_resnet(231, outputs=3)
    network.set_weights(networks.initial_weights(network, 1))
    return network


def named(network, weights=None):
    """Weights by layer and variable."""
    given = network.get_weights() if weights is None else weights
    return dict(zip([variable.path for variable in network.weights], given, strict=True))


def test_elemnet_has_the_papers_seventeen_layers(elemnet):
    dense = [layer for layer in elemnet.layers if layer.weights]
    assert [layer.units for layer in dense] == WIDTHS
    assert [layer.name for layer in dense] == [*EXTRACTION_LAYERS, HEAD]
    assert [layer.activation.__name__ for layer in dense] == ["relu"] * 16 + ["linear"]
    assert (elemnet.input_shape, elemnet.output_shape) == ((None, 86), (None, 1))
    assert elemnet.count_params() == elemnet_parameters() == 4_631_361


def test_dropout_is_left_out_unless_asked_for_and_follows_the_last_layer_of_each_width(elemnet, resnet):
    assert not [layer for net in (elemnet, resnet) for layer in net.layers if "dropout" in layer.name]
    names = [layer.name for layer in networks.build_elemnet(86, dropout=0.2).layers]
    dropped = [f"dropout_{i:02d}" for i in (4, 7, 10, 13, 15, 16)]
    assert [name for name in names if name.startswith("dropout")] == dropped
    assert names[names.index("dropout_04") - 1] == "hidden_04"
    names = [layer.name for layer in networks.build_resnet(231, dropout=0.1).layers]
    assert [n for n in names if "dropout" in n] == [f"dropout_{i:02d}" for i in range(1, networks.BLOCKS + 1)]


@pytest.mark.parametrize("name", ["elemnet", "resnet"])
def test_initial_weights_fit_the_network_stay_within_their_bounds_and_follow_the_seed(name, request):
    network = request.getfixturevalue(name)
    drawn = named(network, networks.initial_weights(network, 5))
    for path, weights in drawn.items():
        layer, kind = path.split("/")
        assert weights.shape == named(network)[path].shape
        assert weights.dtype == np.float32
        if kind in ("gamma", "beta", "bias"):
            assert (weights == (kind == "gamma")).all()
        else:
            full = np.sqrt(6 / weights.shape[0])
            bound = {HEAD: np.sqrt(1 / weights.shape[0])}.get(layer, full)
            bound *= 0.1 if layer.startswith("outer") else 1.0
            assert 0.8 * bound < np.abs(weights).max() <= bound
    same, other = (networks.initial_weights(network, seed) for seed in (5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(drawn.values(), same, strict=True))
    assert not np.array_equal(same[0], other[0])


def test_outputs_come_chunk_by_chunk_as_at_once(resnet):
    assert resnet.count_params() == resnet_parameters() + 2 * 513 == 2_753_027  # two further outputs
    many = np.tile(FEATURES, (CHUNK // 7 + 2, 1))
    outputs = network_outputs(resnet, many)
    assert outputs.shape == (len(many), 3)
    assert outputs[:7] == pytest.approx(np.asarray(resnet(FEATURES)), rel=1e-4, abs=1e-5)
    assert outputs[-7:] == pytest.approx(outputs[:7], rel=1e-4, abs=1e-5)
    nothing = network_outputs(resnet, FEATURES[:0])
    assert (nothing.shape, nothing.dtype) == ((0, 3), np.float32)
