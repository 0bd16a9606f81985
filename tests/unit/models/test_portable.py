"""Networks and regressors as arrays: the same outputs as Keras and scikit-learn, or refused by name."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVR

from crossprop.errors import ModelFormatError
from crossprop.models import portable
from crossprop.models.fitted import network_outputs, save_network
from crossprop.models.networks import build_elemnet, build_resnet, initial_weights
from crossprop.models.regressors import build_regressor

ROWS = np.random.default_rng(0).random((50, 86)).astype(np.float32)
ROWS[:, 40] = 3.0  # as an element that no composition holds
VALUES = 10 * ROWS[:, :5].sum(axis=1) + np.sin(9 * ROWS[:, 7])


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.02])
def test_width_of_a_kernel_is_the_one_that_was_fitted_with(gamma):
    estimator = make_pipeline(StandardScaler(), SVR(gamma=gamma)).fit(ROWS, VALUES)
    got = portable.portable_regressor(estimator).predict(ROWS)
    np.testing.assert_allclose(got, estimator.predict(ROWS), atol=1e-6 * VALUES.std())


def test_what_has_no_portable_form_is_left_as_it_is():
    for estimator in (
        make_pipeline(StandardScaler(), SVR(kernel="poly")),
        make_pipeline(MinMaxScaler(), SVR()),
        SVR(),
        make_pipeline(StandardScaler(), SVR(epsilon=1e9)),
    ):
        assert portable.portable_regressor(estimator.fit(ROWS, VALUES)) is None


def written(network, folder):
    drawn = initial_weights(network, 1)
    network.set_weights([w + 0.1 * np.arange(w.size) / w.size if w.ndim == 1 else w for w in drawn])
    save_network(network, folder / "network.keras")
    return folder / "network.keras"


@pytest.mark.parametrize(
    ("kind", "dropout", "scaled"), [("elemnet", 0.0, True), ("elemnet", 0.3, False), ("resnet", 0.3, True)]
)
def test_outputs_are_those_of_keras(kind, dropout, scaled, tmp_path, tensorflow):
    import keras

    network = build_elemnet(86, dropout) if kind == "elemnet" else build_resnet(86, 3, dropout)
    scaling = np.stack([np.full(86, 0.4), np.full(86, 0.02)]).astype(np.float32) if scaled else None
    read = portable.Network.read(written(network, tmp_path), scaling)
    expected = network_outputs(network, ROWS if scaling is None else portable.standardised(ROWS, scaling))
    np.testing.assert_allclose(read.outputs(ROWS), expected, atol=1e-5 * expected.std(), rtol=1e-5)
    assert read.outputs(ROWS[:0]).shape == (0, expected.shape[1])
    if kind == "elemnet":
        for layer in ("hidden_01", "hidden_09", "hidden_16"):
            got = portable.Network.read(tmp_path / "network.keras", layer=layer).outputs(ROWS)
            extractor = keras.Model(network.input, network.get_layer(layer).output)
            expected = keras.ops.convert_to_numpy(extractor(ROWS))
            np.testing.assert_allclose(got, expected, atol=1e-5 * expected.std(), rtol=1e-5)


def rewritten(path: Path, change) -> Path:
    """The file of a network with another description of its layers."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in (content | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, value)
    return path


def test_file_that_contradicts_itself_is_refused(tmp_path, tensorflow):
    for change, message in (
        (lambda c: c["config"]["layers"][-1].update(name="strange"), "neither an ElemNet nor a residual"),
        (lambda config: config["config"]["layers"].reverse(), "do not fit together|cannot be read"),
        (lambda config: config.pop("config"), "cannot be read"),
    ):
        with pytest.raises(ModelFormatError, match=message):
            portable.Network.read(rewritten(written(build_elemnet(86), tmp_path), change))


def test_damaged_network_and_arrays_of_another_form_are_refused(tmp_path):
    path = tmp_path / "member.npz"
    for _ in range(2):
        with pytest.raises(ModelFormatError, match="cannot be read"):
            portable.Network.read(path)
        path.write_bytes(b"no archive")
    portable.save_arrays(portable.portable_regressor(build_regressor("ridge", {}, 1).fit(ROWS, VALUES)), path)
    for form, message in (("trees", "not the arrays of trees"), ("pickle", "the form 'pickle'")):
        with pytest.raises(ModelFormatError, match=message):
            portable.load_arrays(form, path)
