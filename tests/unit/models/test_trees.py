"""Trees as one array of nodes: every row reaches the leaf that scikit-learn's tree sends it to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import ensemble, tree
from sklearn.linear_model import Ridge

from crossprop.errors import ModelFormatError
from crossprop.models import trees
from crossprop.models.regressors import MedianForest
from crossprop.models.trees import merged, predict_together, round_down, trees_of

RNG = np.random.default_rng(0)
X = RNG.integers(0, 9, (400, 7)).astype(np.float32) / 8 + RNG.choice([0, 1e-4], (400, 7)).astype(np.float32)
Y = X[:, 0] * X[:, 1] - np.sin(4 * X[:, 2]) + 0.1 * RNG.normal(size=400)
ESTIMATORS = [
    ensemble.ExtraTreesRegressor(20, max_features=0.4, random_state=1),
    ensemble.RandomForestRegressor(15, min_samples_leaf=3, random_state=1),
    ensemble.BaggingRegressor(n_estimators=8, max_features=0.5, random_state=1),
    ensemble.BaggingRegressor(tree.ExtraTreeRegressor(), n_estimators=5, random_state=1),
    ensemble.AdaBoostRegressor(tree.DecisionTreeRegressor(max_depth=4), n_estimators=12, random_state=1),
    ensemble.HistGradientBoostingRegressor(max_iter=25, loss="absolute_error"),
    tree.DecisionTreeRegressor(max_depth=1, random_state=1),
    MedianForest(ensemble.RandomForestRegressor(15, min_samples_leaf=3, random_state=1)),
]


@pytest.fixture(scope="module", params=ESTIMATORS[:-1], ids=lambda one: type(one).__name__)
def estimator(request):
    return request.param.fit(X, Y)


@pytest.mark.parametrize("rows", [0, 1, 3, 400])
def test_trees_predict_what_scikit_learn_predicts(estimator, rows, monkeypatch):
    monkeypatch.setattr(trees, "BLOCK", 1000)  # several blocks of trees
    expected = estimator.predict(X[:rows]) if rows else np.zeros(0)
    np.testing.assert_allclose(trees_of(estimator).predict(X[:rows]), expected, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("trees_in_forest", [4, 5])
def test_a_median_forest_predicts_the_median_over_its_trees(trees_in_forest):
    forest = ensemble.ExtraTreesRegressor(trees_in_forest, random_state=1)
    predicted = MedianForest(forest).fit(X, Y).predict(X + 0.01)
    expected = np.median([one.predict(X + 0.01) for one in forest.estimators_], axis=0)
    np.testing.assert_allclose(predicted, expected, rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("rows", [1, 65])
def test_regressors_that_are_walked_together_predict_the_same(rows):
    alone = [trees_of(estimator.fit(X, Y)) for estimator in ESTIMATORS]
    shared = merged(alone)
    assert all(one.nodes is shared[0].nodes for one in shared)
    for one, answer in zip(alone, predict_together(shared, X[:rows]), strict=True):
        np.testing.assert_array_equal(answer, one.predict(X[:rows]))


def test_values_beside_a_threshold_go_where_scikit_learn_sends_them():
    steps = np.arange(1, 200, dtype=np.float32)
    low, high = np.nextafter(steps, np.float32(-1)), np.nextafter(steps, np.float32(999))
    x = np.concatenate([steps, low, high])[:, None]
    grown = tree.DecisionTreeRegressor(random_state=0).fit(x, RNG.normal(size=len(x)))
    near = np.concatenate([x, np.nextafter(x, np.float32(-1)), np.nextafter(x, np.float32(999))])
    assert np.array_equal(trees_of(grown).predict(near), grown.predict(near).astype(np.float32))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_rounding_down_decides_every_comparison_alike(values):
    exact = np.array(values)
    rounded = round_down(exact)
    assert (rounded <= exact).all()
    with np.errstate(over="ignore"):
        assert (np.nextafter(rounded, np.float32(np.inf)) > exact).all()


def test_what_is_no_ensemble_of_trees_is_left_alone_and_what_has_no_array_form_is_refused():
    assert trees_of(Ridge().fit(X, Y)) is None
    assert trees_of(ensemble.BaggingRegressor(Ridge(), n_estimators=2).fit(X, Y)) is None
    wide = np.zeros((4, 3000), np.float32)
    wide[:2, 2999] = 1
    options = {"max_iter": 2, "categorical_features": [0], "min_samples_leaf": 2}
    categories = ensemble.HistGradientBoostingRegressor(**options)
    for fitted, message in (
        (tree.DecisionTreeRegressor().fit(wide, [0, 0, 1, 1]), "3000 features"),
        (tree.DecisionTreeRegressor().fit(X, np.stack([Y, Y], axis=1)), "2 outputs"),
        (categories.fit(np.floor(X * 8), np.floor(X[:, 0] * 8) % 2), "categories"),
    ):
        with pytest.raises(ModelFormatError, match=message):
            trees_of(fitted)
