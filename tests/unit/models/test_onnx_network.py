"""Keras networks read from their files as ONNX: the same outputs, or refused by name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from crossprop.errors import ModelFormatError
from crossprop.models.export import gaussian_exponents_to_onnx, network_to_onnx
from crossprop.models.fitted import network_outputs, save_network, standardised
from crossprop.models.networks import REPRESENTATION_LAYER, build_elemnet, build_resnet, initial_weights
from crossprop.models.transfer import extract_activations

pytestmark = pytest.mark.usefixtures("tensorflow")
ROWS = np.random.default_rng(0).random((50, 86)).astype(np.float32)


def run(content, features):
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0]


def written(network, folder):
    drawn = initial_weights(network, 1)
    network.set_weights([w + 0.1 * np.arange(w.size) / w.size if w.ndim == 1 else w for w in drawn])
    save_network(network, folder / "network.keras")
    return folder / "network.keras"


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["elemnet", "resnet"])
def test_outputs_are_those_of_keras(kind, dropout, tmp_path):
    network = build_elemnet(86, dropout) if kind == "elemnet" else build_resnet(86, 3, dropout)
    path = written(network, tmp_path)
    expected = network_outputs(network, ROWS)
    np.testing.assert_allclose(
        run(network_to_onnx(path), ROWS), expected, atol=1e-5 * expected.std(), rtol=1e-5
    )


@pytest.mark.parametrize("layer", ["hidden_01", "hidden_09", "hidden_16"])
def test_network_is_cut_at_a_layer(layer, tmp_path):
    network = build_elemnet(86, dropout=0.2)
    got = run(network_to_onnx(written(network, tmp_path), layer=layer), ROWS)
    expected = extract_activations(network, ROWS, [layer])[layer]
    np.testing.assert_allclose(got, expected, atol=1e-5 * expected.std(), rtol=1e-5)


def test_inputs_are_standardised_first(tmp_path):
    network = build_resnet(86)
    path = written(network, tmp_path)
    scaling = np.stack([np.full(86, 0.4), np.full(86, 0.01)]).astype(
        np.float32
    )  # many are cut at ten deviations
    expected = network_outputs(network, standardised(ROWS, scaling))
    np.testing.assert_allclose(
        run(network_to_onnx(path, scaling=scaling), ROWS), expected, atol=1e-5 * expected.std(), rtol=1e-5
    )


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh", "sigmoid", "softplus", "linear"])
def test_activations_are_those_of_keras(activation, tmp_path):
    import keras

    inputs = keras.Input((86,))
    hidden = keras.layers.Dense(7, activation=activation, use_bias=False)(inputs)
    network = keras.Model(inputs, keras.layers.Activation(activation)(hidden))
    network.save(tmp_path / "network.keras")
    expected = network_outputs(network, ROWS)
    np.testing.assert_allclose(run(network_to_onnx(tmp_path / "network.keras"), ROWS), expected, atol=1e-5)


@pytest.mark.parametrize("what", ["BatchNormalization", "gelu", "Lambda"])
def test_what_is_not_known_is_refused_by_name(what, tmp_path):
    import keras

    inputs = keras.Input((86,))
    body = {
        "BatchNormalization": lambda: keras.layers.BatchNormalization()(inputs),
        "gelu": lambda: keras.layers.Dense(3, activation="gelu")(inputs),
        "Lambda": lambda: keras.layers.Lambda(lambda x: x * 2)(inputs),
    }[what]()
    keras.Model(inputs, body).save(tmp_path / "network.keras")
    with pytest.raises(ModelFormatError, match=what):
        network_to_onnx(tmp_path / "network.keras")


def test_layer_that_is_not_there_is_refused(tmp_path):
    path = written(build_resnet(86), tmp_path)
    with pytest.raises(ModelFormatError, match="has no layer 'hidden_05'"):
        network_to_onnx(path, layer="hidden_05")
    assert run(network_to_onnx(path, layer=REPRESENTATION_LAYER), ROWS).shape == (50, 384)


def rewrite(path: Path, change) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in (content | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, value)


def dense(config):
    return next(one for one in config["config"]["layers"] if one["class_name"] == "Dense")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: dense(config)["config"].update(units=5), "shapes"),
        (lambda config: config.update(class_name="Sequential"), "Sequential"),
        (lambda config: dense(config).update(module="evil.layers"), "evil.layers"),
        (lambda config: config["config"]["layers"].pop(), "names its weights"),
        (lambda config: config.pop("config"), "cannot be read"),
    ],
)
def test_file_that_contradicts_itself_is_refused(change, message, tmp_path):
    path = written(build_elemnet(86), tmp_path)
    rewrite(path, change)
    with pytest.raises(ModelFormatError, match=message):
        network_to_onnx(path)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "network.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFormatError, match="cannot be read"):
        network_to_onnx(path)


def test_exponents_of_a_gaussian_kernel_are_its_distances():
    rng = np.random.default_rng(1)
    vectors, x = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    expected = -0.7 * ((x[:, None] - vectors) ** 2).sum(axis=2)
    got = run(gaussian_exponents_to_onnx(vectors, 0.7), x)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
