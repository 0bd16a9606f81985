"""Weights that are transferred from a source network."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def saved(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.keras"
    save_network(source, path)
    return path


@pytest.fixture(scope="module")
def fractions():
    return np.random.default_rng(0).dirichlet(np.ones(86), 5).astype(np.float32)


@pytest.mark.parametrize(("reset_head", "kept"), [(False, 34), (True, 32)])
def test_fine_tuning_keeps_all_weights_and_modified_fine_tuning_draws_the_head(source, reset_head, kept):
    model = build_elemnet(86, dropout=0.3)  # whose layers do not shift the weights
    given = transferred_weights(source, model, seed=9, reset_head=reset_head)
    expected = [*source.get_weights()[:kept], *initial_weights(model, 9)[kept:]]
    assert all(np.array_equal(a, b) for a, b in zip(given, expected, strict=True))
    assert np.array_equal(given[-2], source.get_weights()[-2]) != reset_head


def test_modified_fine_tuning_may_change_the_width_of_the_head():
    joint, target = build_resnet(231, outputs=3), build_resnet(231)
    given = transferred_weights(joint, target, seed=9, reset_head=True)
    assert all(np.array_equal(a, b) for a, b in zip(given[:-2], joint.get_weights(), strict=False))
    assert np.array_equal(given[-2], initial_weights(target, 9)[-2])
    with pytest.raises(ShapeMismatchError, match=r"layer head has weights \[\(384, 1\), \(1,\)\]"):
        transferred_weights(joint, target, seed=9, reset_head=False)


def test_missing_surplus_and_differing_layers_are_refused(source):
    import keras

    with pytest.raises(ShapeMismatchError, match=r"layer hidden_01 has weights \[\(145, 1024\), \(1024,\)\]"):
        transferred_weights(source, build_elemnet(145), seed=1, reset_head=False)
    inputs = keras.Input((86,))
    first = keras.layers.Dense(1024, activation="relu", name="hidden_01")(inputs)
    short = keras.Model(inputs, first)
    with pytest.raises(ShapeMismatchError, match=r"layers that the target lacks: \['head', 'hidden_02'"):
        transferred_weights(source, short, seed=1, reset_head=False)
    with pytest.raises(
        ShapeMismatchError, match=r"layer hidden_02 has weights .* the source network has None"
    ):
        transferred_weights(short, build_elemnet(86), seed=1, reset_head=False)


def test_saved_network_comes_back_with_its_weights(source, saved, fractions):
    loaded = load_network(saved)
    assert weights_digest(loaded) == weights_digest(source)
    assert np.array_equal(np.asarray(loaded(fractions)), np.asarray(source(fractions)))
    assert loaded.get_layer(HEAD).units == 1
    loaded.set_weights([weights + 1e-6 for weights in source.get_weights()])
    assert weights_digest(loaded) != weights_digest(source)


def test_saved_network_leaves_its_optimizer_behind(saved, tmp_path):
    network = load_network(saved)
    network.compile(optimizer="adam", loss="mae")
    network.optimizer.build(network.trainable_variables)
    save_network(network, tmp_path / "again.keras")
    assert (tmp_path / "again.keras").stat().st_size < 1.01 * saved.stat().st_size
    with zipfile.ZipFile(tmp_path / "again.keras") as archive:
        assert not json.loads(archive.read("config.json")).get("compile_config")


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (None, r"network\.keras is missing\. Run the stage that trains it"),
        (0.0, "cannot be loaded"),
        (0.9, "cannot be loaded"),
    ],
)
def test_missing_or_truncated_network_is_refused(saved, tmp_path, share, message):
    if share is not None:
        content = saved.read_bytes()
        (tmp_path / "network.keras").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFormatError, match=message):
        load_network(tmp_path / "network.keras")


def test_network_that_holds_code_is_refused(tmp_path):
    import keras

    inputs = keras.Input((86,))
    doubled = keras.layers.Lambda(lambda x: 2 * x)(inputs)
    path = tmp_path / "network.keras"
    keras.Model(inputs, doubled).save(path)
    with pytest.raises(ModelFormatError, match="cannot be loaded"):
        load_network(path)
