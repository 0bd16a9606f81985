"""Fitted models and ensembles on disk: they come back as they were, or are refused by name."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.models.fitted import FittedModel, standardised
from crossprop.models.saved import load_predictor
from crossprop.models.target_transform import TargetTransform
from crossprop.training.trainer import fit_base, fit_regressor

FORMULAS = ["NaCl", "MgO", "Fe2O3", "GaAs", "TiO2", "KBr", "LiF", "CaO", "ZnS", "SiC"]
X = fraction_matrix(FORMULAS).astype(np.float32)
Y = np.array([25.0, 160.0, 200.0, 75.0, 210.0, 15.0, 70.0, 110.0, 75.0, 220.0])


@pytest.fixture(scope="module")
def network_model(tensorflow):
    """An ElemNet with drawn weights and inputs that are standardised."""
    from crossprop.models.networks import build_elemnet, initial_weights

    network = build_elemnet(86)
    network.set_weights(initial_weights(network, 1))
    scaling = np.stack([X.mean(axis=0), np.ones(86)]).astype(np.float32)
    return FittedModel("network", network, TargetTransform.fit(Y), scaling)


@pytest.fixture
def ensemble(tmp_path):
    """Writes an ensemble of ridges; keywords replace entries of ``model.json``, ``None`` removes one."""

    def write(**changes: object) -> Path:
        for name, alpha in (("fold_00", 0.1), ("fold_01", 1.0)):
            fit_regressor("ridge", {"alpha": alpha}, X, Y, seed=1).save(tmp_path / name)
        info = {
            "format": 1,
            "target": "bulk_modulus",
            "representation": "elemental_fractions",
            "layer": None,
            "elements": list(ELEMENTS),
            "members": ["fold_00", "fold_01"],
            **changes,
        }
        info = {key: value for key, value in info.items() if value is not None or key == "layer"}
        (tmp_path / "model.json").write_text(json.dumps(info), encoding="utf-8")
        return tmp_path

    return write


def test_base_predicts_its_mean_and_survives(tmp_path):
    fit_base(Y).save(tmp_path)
    loaded = FittedModel.load(tmp_path)
    assert loaded.predict(X) == pytest.approx(np.full(10, 116.0))  # 1160 / 10
    assert loaded.transform is None


def test_network_survives_with_its_scaling(network_model, tmp_path):
    expected = network_model.predict(X)
    network_model.save(tmp_path)
    loaded = FittedModel.load(tmp_path)
    assert np.array_equal(loaded.predict(X), expected)
    assert np.array_equal(loaded.scaling, network_model.scaling)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["member.json", "network.keras", "scaling.npy"]


def test_predictions_of_a_network_do_not_depend_on_their_neighbours(network_model):
    many = np.tile(X, (230, 1))  # more rows than one chunk
    assert network_model.predict(many)[:10] == pytest.approx(network_model.predict(X), rel=1e-5)
    assert network_model.predict(X[3:4]) == pytest.approx(network_model.predict(X)[3:4], rel=1e-5)


def test_scaling_of_inputs_counts(network_model):
    plain = FittedModel("network", network_model.body, network_model.transform)
    assert not np.allclose(plain.predict(X), network_model.predict(X))


@pytest.mark.parametrize("kind", ["arcsinh", "identity"])
def test_regressor_predicts_in_the_propertys_unit(kind):
    model = fit_regressor("extra_trees", {"n_estimators": 10}, X, Y, seed=1, transform=kind)
    assert model.predict(X) == pytest.approx(Y)  # every tree knows every row


def test_no_row_gives_no_prediction(network_model):
    for model in (fit_base(Y), fit_regressor("ridge", {}, X, Y, seed=1), network_model):
        assert model.predict(np.zeros((0, 86), np.float32)).shape == (0,)


def test_one_row_without_its_second_axis_is_refused():
    with pytest.raises(ShapeMismatchError, match=r"shape \(86,\); \(n_samples, n_features\) is needed"):
        fit_base(Y).predict(X[0])


def test_standardised_features_are_cut_at_ten_deviations():
    scaling = np.array([[1.0, 0.0], [2.0, 1.0]], np.float32)
    scaled = standardised(np.array([[3.0, 0.5], [1000.0, -1000.0]]), scaling)
    assert np.array_equal(scaled, np.array([[1.0, 0.5], [10.0, -10.0]], np.float32))
    assert scaled.dtype == np.float32


def test_saving_again_replaces_the_model(tmp_path):
    fit_base(Y).save(tmp_path)
    fit_base(Y + 1).save(tmp_path)
    assert FittedModel.load(tmp_path).predict(X[:1]) == pytest.approx([117.0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("", "Expecting value"),
        ('{"kind": "base"', "delimiter"),
        ('{"kind": "base", "transform": null}', "standardised"),
        ('{"kind": "network", "transform": {"kind": "arcsinh"}, "standardised": false}', "missing"),
        ('{"kind": "regressor", "transform": null, "standardised": true}', "scaling.npy"),
        ('{"kind": "pickle", "transform": null, "standardised": false}', "names the kind 'pickle'"),
        ('["base"]', "indices"),
    ],
)
def test_damaged_note_is_refused_with_the_folder(tmp_path, content, reason):
    if content is not None:
        (tmp_path / "member.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelFormatError, match=reason) as caught:
        FittedModel.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_regressor_is_refused(tmp_path, share):
    fit_regressor("extra_trees", {"n_estimators": 5}, X, Y, seed=1).save(tmp_path)
    path = tmp_path / "regressor.skops"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelFormatError):
        FittedModel.load(tmp_path)


def test_regressor_that_is_gone_is_refused(tmp_path):
    fit_regressor("ridge", {}, X, Y, seed=1).save(tmp_path)
    (tmp_path / "regressor.skops").unlink()
    with pytest.raises(ModelFormatError, match="Register or pull it again"):
        FittedModel.load(tmp_path)


def test_truncated_scaling_is_refused(network_model, tmp_path):
    network_model.save(tmp_path)
    (tmp_path / "scaling.npy").write_bytes((tmp_path / "scaling.npy").read_bytes()[:100])
    with pytest.raises(ModelFormatError):
        FittedModel.load(tmp_path)


class Stranger(Ridge):
    """A class of neither scikit-learn nor NumPy."""


def test_regressor_of_a_foreign_type_is_refused_by_its_name(tmp_path):
    FittedModel("regressor", Stranger().fit(X, Y), TargetTransform.fit(Y)).save(tmp_path)
    with pytest.raises(ModelFormatError, match=r"holds \S+\.Stranger, which crossprop does not trust"):
        FittedModel.load(tmp_path)


def test_type_slipped_into_a_saved_regressor_is_refused_before_anything_is_built(tmp_path):
    """Somebody edits the schema of a good file: a call of `os.system` stands in place of an attribute."""
    fit_regressor("ridge", {}, X, Y, seed=1).save(tmp_path)
    path = tmp_path / "regressor.skops"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(entries["schema.json"])
    schema["content"]["content"]["memory"] = {
        "__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "__id__": 1
    }  # fmt: skip
    entries["schema.json"] = json.dumps(schema).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ModelFormatError, match=r"os\.system"):
        FittedModel.load(tmp_path)


def test_ensemble_is_the_mean_of_its_members(ensemble):
    predictor = load_predictor(ensemble())
    members = predictor.predict_members(X.astype(np.float64))
    assert members.shape == (2, 10)
    assert not np.allclose(members[0], members[1])
    assert predictor.predict(X) == pytest.approx(members.mean(axis=0))
    assert members[0] == pytest.approx(fit_regressor("ridge", {"alpha": 0.1}, X, Y, seed=1).predict(X))


def test_ensemble_computes_physical_attributes_by_itself(ensemble):
    from crossprop.features.magpie import physical_attributes

    folder = ensemble(representation="physical_attributes", members=["fold_00"])
    attributes = physical_attributes(X.astype(np.float64)).astype(np.float32)
    model = fit_regressor("extra_trees", {"n_estimators": 5}, attributes, Y, seed=1)
    model.save(folder / "fold_00")
    assert np.array_equal(load_predictor(folder).predict(X), model.predict(attributes))


def test_ensemble_on_activations_carries_its_source_network(ensemble, network_model):
    from crossprop.models.fitted import save_network
    from crossprop.models.transfer import extract_activations

    folder = ensemble(representation="activations", layer="hidden_15", members=["fold_00"])
    save_network(network_model.body, folder / "source.keras")
    activations = extract_activations(network_model.body, X, ["hidden_15"])["hidden_15"]
    model = fit_regressor("extra_trees", {"n_estimators": 5}, activations, Y, seed=1)
    model.save(folder / "fold_00")
    assert load_predictor(folder).predict(X) == pytest.approx(model.predict(activations))


def test_ensemble_of_networks_predicts_what_its_members_predicted(ensemble, network_model):
    folder = ensemble(members=["fold_00"])
    network_model.save(folder / "fold_00")
    assert load_predictor(folder).predict(X) == pytest.approx(network_model.predict(X))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 3}, "has format 3; this version of crossprop reads 1 and 2"),
        ({"format": None}, "has format None"),
        ({"members": []}, "lists no members"),
        ({"members": None}, "lists no members"),
        ({"members": ["fold_07"]}, "fold_07 holds no complete model"),
    ],
)
def test_ensemble_of_another_format_or_without_members_is_refused(ensemble, changes, reason):
    with pytest.raises(ModelFormatError, match=reason):
        load_predictor(ensemble(**changes))


@pytest.mark.parametrize("content", ["", "{", '{"format": 1'])
def test_ensemble_with_a_damaged_note_is_refused(ensemble, content):
    folder = ensemble()
    (folder / "model.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelFormatError, match=r"holds no readable model\.json"):
        load_predictor(folder)


def test_folder_that_is_no_ensemble_is_refused(tmp_path):
    with pytest.raises(ModelFormatError, match=r"no readable model\.json"):
        load_predictor(tmp_path / "elsewhere")


def test_model_file_that_is_no_mapping_is_refused(tmp_path):
    (tmp_path / "model.json").write_text("[1, 2]")
    with pytest.raises(ModelFormatError, match="has format 'list'"):
        load_predictor(tmp_path)


def test_ensemble_on_predicted_sources_without_its_scaling_is_refused(ensemble):
    from crossprop.models.fitted import save_network
    from crossprop.models.networks import build_resnet, initial_weights

    folder = ensemble(representation="predicted_sources", members=["fold_00"])
    network = build_resnet(231)
    network.set_weights(initial_weights(network, 1))
    save_network(network, folder / "source.keras")
    for damage in (lambda path: None, lambda path: path.write_bytes(b"\x93NUMPY")):
        damage(folder / "scaling.npy")
        with pytest.raises(
            ModelFormatError, match=r"scaling\.npy cannot be read: .*Register or pull it again"
        ):
            load_predictor(folder).predict(X)
