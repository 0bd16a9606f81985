"""The estimator keeps scikit-learn's conventions where formulas as input allow it."""

import copy
import pickle  # noqa: TID251 - what a user's joblib does to an estimator
import warnings

import numpy as np
import pandas as pd
import pytest
from made_rows import rows_of, write_networks
from pymatgen.core import Composition
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from crossprop import CrossPropertyRegressor, composition_groups
from crossprop.data.compositions import fraction_matrix
from crossprop.errors import ModelFormatError, StoreError
from crossprop.estimator.inputs import formulas_in
from crossprop.estimator.pretrained import SourceNetworks
from crossprop.estimator.regressor import SourceOverlapWarning
from crossprop.inference.predictor import ServedModel

QUICK = {"methods": ["ml"], "trials": 1, "folds": 2}
ROWS = rows_of(60)
FORMULAS, VALUES = ROWS["formula"].tolist(), ROWS["value"].to_numpy()
AMOUNTS = [Composition(formula).as_dict() for formula in FORMULAS[:4]]


@pytest.fixture(scope="module")
def fitted():
    return CrossPropertyRegressor(
        methods=["base", "ml", "boost", "blend"], trials=1, folds=2, target="hardness", unit="GPa"
    ).fit(FORMULAS, VALUES)


def test_predictions_are_those_of_the_best_method(fitted):
    table = pd.DataFrame(fitted.cv_results_).set_index("label")
    assert table.loc[fitted.winner_, "mean_val_mae"] == fitted.cv_mae_ == table["mean_val_mae"].min()
    assert fitted.score(FORMULAS, VALUES) > 0.3
    assert fitted.n_features_in_ == 1
    assert fitted.n_iter_ >= 3


def test_formulas_may_come_in_any_shape(fitted):
    for given in (
        (formula for formula in FORMULAS[:4]),
        np.array(FORMULAS[:4], dtype=object)[:, None],
        pd.Series(FORMULAS[:4], index=[7, 7, 1, 0]),
        pd.DataFrame({"anything": FORMULAS[:4]}),
        pd.DataFrame({"other": 1, "formula": FORMULAS[:4]}),
        [Composition(formula) for formula in FORMULAS[:4]],
        pd.Series(AMOUNTS),
        pd.DataFrame(AMOUNTS),
        [f" {formula}\u200b".replace("2", "₂") for formula in FORMULAS[:4]],
    ):
        assert fitted.predict(given) == pytest.approx(fitted.predict(FORMULAS)[:4])


def test_columns_of_weights_become_atoms():
    (formula,) = formulas_in(pd.DataFrame({"Fe (wt%)": [69.943], "O (wt%)": [30.057]}))
    assert fraction_matrix([formula]).max() == pytest.approx(0.6, abs=1e-4)


def test_what_is_no_formula_is_a_value_error(fitted):
    for given, message in (
        ([], "0 sample"),
        ("NaCl", r"give \['NaCl'\]"),
        (np.ones((3, 2)), r"shape \(3, 2\)"),
        (pd.DataFrame({"a": ["NaCl"], "b": ["KCl"]}), "name it 'formula'"),
        (["NaCl", "no formula", None, 3.0], "3 of 4 rows are no formulas: row 1"),
        ({"a": "Fe2O3"}, "no order"),
        ([{"Fe": "much"}], "no formulas"),
        ([{"NaCl": 0.3, "KCl": 0.7}], "'NaCl' is no element"),
        (pd.DataFrame({"Fe": [1], "O": [-1]}), "amount of O is negative"),
        (pd.DataFrame({"Fe": [1], "O": ["x"]}), "more than numbers"),
        (pd.DataFrame({"Fe": [1], "Fe (at%)": [1]}), "one of each"),
        (pd.DataFrame({"Fe (wt%)": [70], "O (at%)": [30]}), "amounts of one kind"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted.predict(given)


def test_what_cannot_be_learnt_from_is_a_value_error():
    for formulas, values, message in (
        (FORMULAS, VALUES[:-1], "inconsistent numbers of samples"),
        (FORMULAS, np.where(np.arange(60) == 5, np.nan, VALUES), "NaN"),
        (FORMULAS, ["much"] * 60, "not compatible with arrays of bytes/strings"),
        (FORMULAS, np.ones(60), "constant"),
        (FORMULAS, VALUES * 1e300, r"reach .*e\+30\d.*in a larger unit, or their logarithm"),
        (FORMULAS, None, "y is None"),
        (FORMULAS, np.ones((60, 2)), "1d array"),
        (FORMULAS[:5], VALUES[:5], "at least 10 compositions"),
        (FORMULAS[:1], VALUES[:1], "n_samples=1"),
        (["NaCl"] * 60, VALUES, "1 compositions"),
    ):
        with pytest.raises(ValueError, match=message):
            CrossPropertyRegressor(**QUICK).fit(formulas, values)


def test_intervals_are_those_of_the_saved_model(quick_fit):
    for coverage in (None, 0.9, 0.6):
        model = ServedModel.load(quick_fit.model_folder_)
        expected = (model.with_coverage(coverage) if coverage else model).predict(fraction_matrix(FORMULAS))
        judged = quick_fit.predict_interval(FORMULAS, coverage=coverage)
        np.testing.assert_allclose(judged, np.stack([expected.lower, expected.upper], axis=1))


def test_a_coverage_beyond_what_the_errors_can_tell_is_warned_of(quick_fit):
    with pytest.raises(ValueError, match="a share between 0 and 1"):
        quick_fit.predict_interval(["NaCl"], coverage=90)
    with pytest.warns(UserWarning, match=r"48 errors are known.*too few for a coverage of 0.99"):
        quick_fit.predict_interval(["NaCl"], coverage=0.99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick_fit.predict_interval(["NaCl"], coverage=0.95)


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    with pytest.warns(DataConversionWarning):
        first = CrossPropertyRegressor(**QUICK, random_state=3).fit(FORMULAS, VALUES[:, None])
    same, other = (
        clone(CrossPropertyRegressor(**QUICK, random_state=seed)).fit(FORMULAS, VALUES)
        for seed in (np.int64(3), np.random.RandomState(4))
    )
    np.testing.assert_array_equal(first.predict(FORMULAS), same.predict(FORMULAS))
    assert (first.predict(FORMULAS) != other.predict(FORMULAS)).any()


def test_copies_predict_the_same_and_outlive_the_original(quick_fit):
    original = copy.deepcopy(quick_fit)
    expected, folder = original.predict(FORMULAS[:2]), original.model_folder_
    sent = pickle.dumps(original)
    deep = copy.deepcopy(original)
    del original
    assert not folder.exists()
    received = pickle.loads(sent)  # noqa: S301
    assert len({deep.model_folder_, received.model_folder_, folder}) == 3
    for estimator in (deep, received):
        np.testing.assert_array_equal(estimator.predict(FORMULAS[:2]), expected)


def test_saved_it_is_an_estimator_and_a_model_folder(fitted, tmp_path):
    folder = fitted.save(tmp_path / "model")
    loaded = CrossPropertyRegressor.load(folder)
    assert loaded.get_params() == fitted.get_params()
    for name in ("winner_", "cv_mae_", "cv_results_", "n_iter_", "notes_"):
        assert getattr(loaded, name) == getattr(fitted, name)
    np.testing.assert_array_equal(loaded.predict_interval(FORMULAS), fitted.predict_interval(FORMULAS))
    with pytest.raises(StoreError, match="not empty"):
        fitted.save(folder)
    fitted.save(folder, replace=True)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_model_without_the_estimators_note_is_loaded_with_what_it_says_itself(quick_fit, tmp_path):
    folder = quick_fit.save(tmp_path / "model")
    (folder / "estimator.json").write_text("{}")
    with pytest.raises(ModelFormatError, match="Save the estimator again"):
        CrossPropertyRegressor.load(folder)
    (folder / "estimator.json").unlink()
    loaded = CrossPropertyRegressor.load(folder)
    assert (loaded.target, loaded.unit, loaded.winner_) == ("hardness", "GPa", "ml")
    np.testing.assert_array_equal(loaded.predict(FORMULAS), quick_fit.predict(FORMULAS))
    for none in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ModelFormatError):
            CrossPropertyRegressor.load(none)


def test_it_works_in_pipelines_cross_validation_and_grid_search():
    pipeline = make_pipeline(FunctionTransformer(lambda x: np.asarray(x)), CrossPropertyRegressor(**QUICK))
    groups = composition_groups(FORMULAS)
    scores = cross_val_score(pipeline, np.array(FORMULAS), VALUES, cv=GroupKFold(2), groups=groups)
    assert np.isfinite(scores).all()
    grid = {"methods": [["ml"]]}
    search = GridSearchCV(CrossPropertyRegressor(**QUICK), grid, cv=2, error_score="raise")
    search.fit(np.array(FORMULAS), VALUES)
    assert search.best_estimator_.predict(["LiNa"]).shape == (1,)


def test_spellings_and_multiples_are_one_group_and_stay_together_within_a_fit():
    assert composition_groups(["NaCl", "KCl", "Na2Cl2", "ClNa"]).tolist() == [0, 1, 0, 0]
    estimator = CrossPropertyRegressor(**QUICK).fit([*FORMULAS, *FORMULAS], np.concatenate([VALUES, VALUES]))
    # k-neighbours or trees that had seen the twin would make no error at all
    assert estimator.cv_mae_ > 0.05 * np.abs(VALUES - VALUES.mean()).mean()


def test_without_networks_auto_says_that_nothing_was_transferred(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSPROP_CACHE", str(tmp_path))
    estimator = CrossPropertyRegressor(sources="auto", minutes=0.01, folds=2, trials=1)
    with pytest.warns(UserWarning, match="no transfer"):
        estimator.fit(FORMULAS[:20], VALUES[:20])


def test_compositions_that_the_networks_know_are_warned_of(quick_fit, tmp_path):
    estimator = copy.deepcopy(quick_fit).set_params(sources="auto")
    estimator.source_networks_ = SourceNetworks.load(write_networks(tmp_path / "n", ["NaCl"]))
    with pytest.warns(SourceOverlapWarning, match="1 of 2 compositions"):
        estimator.predict(["Na2Cl2", "KCl"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.predict(["KCl"])
