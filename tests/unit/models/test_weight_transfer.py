"""Weights that are transferred from a source network."""

import json
import zipfile

import numpy as np
import pytest

from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.methods import HEAD
from crossprop.models.fitted import save_network
from crossprop.models.networks import build_elemnet, build_resnet, initial_weights
from crossprop.models.transfer import load_network, transferred_weights, weights_digest

pytestmark = pytest.mark.usefixtures("tensorflow")


@pytest.fixture(scope="module")
def source(tensorflow):
    network = build_elemnet(86)
    network.set_weights(initial_weights(network, 1))
    return network


def test_networks_that_differ_are_refused_but_modified_fine_tuning_may_change_the_width_of_the_head(source):
    import keras

    joint, target = build_resnet(231, outputs=3), build_resnet(231, dropout=0.3)  # which does not shift the weights
    given = transferred_weights(joint, target, seed=9, reset_head=True)
    assert all(np.array_equal(a, b) for a, b in zip(given[:-2], joint.get_weights(), strict=False))
    assert np.array_equal(given[-2], initial_weights(target, 9)[-2])
    inputs = keras.Input((86,))
    short = keras.Model(inputs, keras.layers.Dense(1024, activation="relu", name="hidden_01")(inputs))
    for giver, taker, message in (
        (joint, target, r"layer head has weights \[\(512, 1\), \(1,\)\]"),
        (source, build_elemnet(145), r"layer hidden_01 has weights \[\(145, 1024\), \(1024,\)\]"),
        (source, short, r"layers that the target lacks: \['head', 'hidden_02'"),
        (short, source, r"layer hidden_02 has weights .* the source network has None"),
    ):
        with pytest.raises(ShapeMismatchError, match=message):
            transferred_weights(giver, taker, seed=1, reset_head=False)


def test_saved_network_comes_back_with_its_weights_and_without_its_optimizer(source, tmp_path):
    fractions = np.random.default_rng(0).dirichlet(np.ones(86), 5).astype(np.float32)
    source.compile(optimizer="adam", loss="mae")
    saved = tmp_path / "network.keras"
    save_network(source, saved)
    with zipfile.ZipFile(saved) as archive:
        assert not json.loads(archive.read("config.json")).get("compile_config")
    loaded = load_network(saved)
    assert weights_digest(loaded) == weights_digest(source)
    assert np.array_equal(np.asarray(loaded(fractions)), np.asarray(source(fractions)))
    assert loaded.get_layer(HEAD).units == 1
    loaded.set_weights([weights + 1e-6 for weights in source.get_weights()])
    assert weights_digest(loaded) != weights_digest(source)


def test_missing_or_truncated_network_and_one_that_holds_code_are_refused(source, tmp_path):
    import keras

    path = tmp_path / "network.keras"
    with pytest.raises(ModelFormatError, match=r"network\.keras is missing\. Run the stage that trains it"):
        load_network(path)
    save_network(source, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelFormatError, match="cannot be loaded"):
        load_network(path)
    inputs = keras.Input((86,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: 2 * x)(inputs)).save(path)
    with pytest.raises(ModelFormatError, match="cannot be loaded"):
        load_network(path)
