"""Compiled ensembles: whatever they are made of, they predict what the saved ones predict."""

from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import pytest
from made_ensembles import FRACTIONS, fitted, write_blend, write_ensemble, write_info

from crossprop.errors import CrosspropError, DataError, ModelFormatError, ShapeMismatchError
from crossprop.inference import compiled
from crossprop.inference.compiled import load_compiled
from crossprop.methods import REGRESSORS
from crossprop.models.saved import load_predictor

NETWORK_ERROR = 3e-5
"""Difference from Keras, in deviations of the predictions: sums of float32 in another order, of drawn weights."""

ZOO = {
    "extra_trees": {"n_estimators": 12},
    "random_forest": {"n_estimators": 7, "max_features": 0.5},
    "bagging": {"n_estimators": 6, "max_features": 0.5},
    "adaboost": {"n_estimators": 9, "max_depth": 4},
    "hist_gradient_boosting": {"max_iter": 12},
}


def assert_same(folder, cache, tolerance, rows=FRACTIONS):
    expected = load_predictor(folder)
    got = load_compiled(folder, cache=cache, threads=2)
    members = expected.predict_members(rows)
    spread = members.std()
    assert np.abs(got.predict_members(rows) - members).max() <= tolerance * spread
    assert np.abs(got.predict(rows) - expected.predict(rows)).max() <= tolerance * spread
    assert got.info == expected.info
    assert got.folder == expected.folder
    return json.loads(next(cache.glob("*/plan.json")).read_text())


@pytest.mark.parametrize("algorithm", [*REGRESSORS, "hist_gradient_boosting"])
def test_regressors_predict_the_same(algorithm, tmp_path):
    given = ZOO.get(algorithm, {})
    members = [fitted(algorithm, "physical_attributes", seed, **given) for seed in (1, 2)]
    folder = write_ensemble(tmp_path / "model", members, "physical_attributes")
    plan = assert_same(folder, tmp_path / "cache", 1e-12 if algorithm in ZOO else 1e-6)
    kinds = {member["kind"] for member in plan["members"]}
    expected = {"svr": "kernel", "k_neighbors": "original"} | dict.fromkeys([*ZOO, "decision_tree"], "trees")
    assert kinds == {expected.get(algorithm, "linear")}


@pytest.mark.parametrize(
    "representation",
    ["elemental_fractions", "physical_attributes", "combined", "activations", "predicted_sources"],
)
def test_every_representation_is_the_same(representation, tmp_path, tensorflow):
    members = [fitted("ridge", representation, 1), fitted("resnet", representation, 2)]
    folder = write_ensemble(tmp_path / "model", members, representation)
    assert_same(folder, tmp_path / "cache", NETWORK_ERROR)


@pytest.mark.parametrize("kind", ["elemnet", "resnet"])
def test_networks_predict_the_same(kind, tmp_path, tensorflow):
    folder = write_ensemble(
        tmp_path / "model", [fitted(kind, "combined", seed) for seed in (1, 2)], "combined"
    )
    plan = assert_same(folder, tmp_path / "cache", NETWORK_ERROR)
    assert [member["kind"] for member in plan["members"]] == ["network", "network"]


def test_base_predicts_its_constant(tmp_path):
    folder = write_ensemble(
        tmp_path / "model", [fitted("base", "elemental_fractions", s) for s in (1, 2)], "elemental_fractions"
    )
    assert np.ptp(load_compiled(folder, cache=tmp_path / "cache").predict(FRACTIONS)) == 0
    assert_same(folder, tmp_path / "cache", 1e-12)


@pytest.fixture(scope="module")
def blend(tmp_path_factory, tensorflow):
    """A blend of trees, networks on two representations and a machine on predicted sources; some weights are zero."""
    folder = tmp_path_factory.mktemp("made") / "model"
    for name, kind, representation in (
        ("part_00", "extra_trees", "physical_attributes"),
        ("part_01", "elemnet", "elemental_fractions"),
        ("part_02", "resnet", "combined"),
        ("part_03", "svr", "predicted_sources"),
        ("part_04", "hist_gradient_boosting", "predicted_sources"),
    ):
        given = ZOO.get(kind, {})
        members = [fitted(kind, representation, seed, **given) for seed in (1, 2)]
        write_ensemble(folder / name, members, representation)
    weights = {
        "part_00": [0.5, 0.25],
        "part_01": [0.25, 0.0],
        "part_02": [0.25, 0.25],
        "part_03": [0.0, 0.25],
    }
    return write_blend(folder, weights | {"part_04": [0.0, 0.25]})


def test_blend_predicts_the_same_without_its_weightless_members(blend, tmp_path):
    plan = assert_same(blend, tmp_path, NETWORK_ERROR)
    assert len(plan["members"]) == 7
    assert len(plan["representations"]) == 4, "the two parts on predicted sources share theirs"
    assert len(list(tmp_path.glob("*/source_*.onnx"))) == 1


@pytest.mark.parametrize("rows", [0, 1, 2, len(FRACTIONS)])
def test_number_of_rows_does_not_matter(blend, tmp_path_factory, rows, monkeypatch):
    monkeypatch.setattr(compiled, "_ROWS_AT_ONCE", 50)
    cache = tmp_path_factory.getbasetemp() / "shared_cache"
    predictor = load_compiled(blend, cache=cache, threads=3)
    got = predictor.predict_members(FRACTIONS[:rows])
    assert got.shape == (2, rows)
    one_by_one = [predictor.predict_members(FRACTIONS[i : i + 1])[:, 0] for i in range(min(rows, 60))]
    np.testing.assert_allclose(got.T[:60], np.reshape(one_by_one, (-1, 2)), rtol=1e-5)


def test_threads_that_share_a_predictor_get_the_same_answers(blend, tmp_path):
    predictor = load_compiled(blend, cache=tmp_path, threads=2)
    expected = predictor.predict(FRACTIONS)
    answers = {}

    def ask(number):
        answers[number] = [predictor.predict(FRACTIONS[number::7]) for _ in range(3)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(7):
        for answer in answers[number]:
            np.testing.assert_allclose(answer, expected[number::7], rtol=1e-5)


@pytest.mark.parametrize("shape", [(86,), (3, 85), (2, 3, 86)])
def test_fractions_of_another_shape_are_refused(blend, tmp_path_factory, shape):
    predictor = load_compiled(blend, cache=tmp_path_factory.getbasetemp() / "shared_cache", threads=1)
    with pytest.raises(ShapeMismatchError, match=r"\(n_samples, 86\) is needed"):
        predictor.predict(np.zeros(shape))


def test_row_that_is_no_composition_is_refused_in_every_thread(blend, tmp_path_factory):
    predictor = load_compiled(blend, cache=tmp_path_factory.getbasetemp() / "shared_cache", threads=3)
    rows = np.tile(FRACTIONS, (20, 1))
    rows[1000] = np.nan
    with pytest.raises(DataError, match="NaN"):
        predictor.predict(rows)


def test_no_thread_is_refused(blend, tmp_path):
    with pytest.raises(DataError, match="threads is 0"):
        load_compiled(blend, cache=tmp_path, threads=0)


def test_network_with_a_layer_that_is_not_known_is_served_by_keras(tmp_path, tensorflow):
    import keras

    inputs = keras.Input((86,))
    body = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GaussianNoise(0.1)(inputs)))
    from crossprop.models.fitted import FittedModel
    from crossprop.models.target_transform import TargetTransform

    member = FittedModel("network", body, TargetTransform.fit(np.arange(20.0)))
    folder = write_ensemble(tmp_path / "model", [member], "elemental_fractions")
    plan = assert_same(folder, tmp_path / "cache", 1e-6)
    assert plan["members"][0]["kind"] == "original"
    assert "GaussianNoise" in plan["members"][0]["reason"]


def damage(folder, what):
    if what == "no model":
        shutil.rmtree(folder)
    elif what == "format":
        write_info(folder, format=99)
    elif what == "no members":
        write_info(folder, representation="elemental_fractions", members=[])
    elif what == "weights":
        write_blend(folder, {"part_00": [1.0]})
    elif what == "truncated network":
        path = folder / "part_01" / "fold_00" / "network.keras"
        path.write_bytes(path.read_bytes()[:-2000])
    elif what == "regressor":
        (folder / "part_00" / "fold_00" / "regressor.skops").write_bytes(b"none")
    elif what == "no scaling":
        (folder / "part_03" / "scaling.npy").unlink()
    elif what == "no source":
        (folder / "part_04" / "source.keras").unlink()
    elif what == "note":
        (folder / "part_00" / "fold_01" / "member.json").write_text("{")


@pytest.mark.parametrize(
    "what",
    [
        "no model",
        "format",
        "no members",
        "weights",
        "truncated network",
        "regressor",
        "no scaling",
        "no source",
        "note",
    ],
)
def test_damaged_model_is_refused_and_leaves_nothing_behind(blend, tmp_path, what):
    folder = shutil.copytree(blend, tmp_path / "model")
    damage(folder, what)
    with pytest.raises(ModelFormatError):
        load_compiled(folder, cache=tmp_path / "cache")
    kept = [path.name for path in (tmp_path / "cache").glob("*") if not path.name.endswith(".lock")]
    assert kept == []


def test_regressor_of_a_type_that_is_not_trusted_is_refused(tmp_path):
    from sklearn.gaussian_process import GaussianProcessRegressor

    from crossprop.models.fitted import FittedModel
    from crossprop.models.target_transform import TargetTransform

    body = GaussianProcessRegressor().fit(FRACTIONS[:5], np.arange(5.0))
    member = FittedModel("regressor", body, TargetTransform.fit(np.arange(20.0)))
    folder = write_ensemble(tmp_path / "model", [member], "elemental_fractions")
    with pytest.raises(ModelFormatError, match="does not trust"):
        load_compiled(folder, cache=tmp_path / "cache")


def test_every_error_of_loading_is_one_of_ours(tmp_path):
    assert issubclass(ModelFormatError, CrosspropError)
    with pytest.raises(ModelFormatError, match="no readable model"):
        compiled.build(tmp_path, tmp_path)
