"""Ensembles and blends from their folders: they predict what their members predict, and ask no more than needed."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_ensembles import FRACTIONS, LAYER, fitted, write_blend, write_ensemble

import crossprop
from crossprop.errors import DataError, ShapeMismatchError
from crossprop.features.element_tables import keep_element_tables
from crossprop.features.magpie import physical_attributes
from crossprop.models import ensemble
from crossprop.models.ensemble import answers_within, turns
from crossprop.models.portable import Network
from crossprop.models.saved import load_predictor

NETWORK_ERROR = 3e-5
"""Difference from Keras, in deviations of the predictions: sums of float32 in another order, of drawn weights."""
SMALL = FRACTIONS.astype(np.float32)
NUMBERS, SIZES = st.floats(-1e3, 1e3), st.floats(0, 1e3)
MEMBERS = st.lists(st.tuples(st.floats(-2, 2), st.integers(0, 50), NUMBERS, SIZES), min_size=1, max_size=6)
TREES = {
    "extra_trees": {"n_estimators": 12},
    "random_forest": {"n_estimators": 7, "max_features": 0.5},
    "adaboost": {"n_estimators": 9, "max_depth": 4},
    "hist_gradient_boosting": {"max_iter": 12},
}


def represented(representation, folder):
    """All rows as members read them."""
    attributes = physical_attributes(FRACTIONS).astype(np.float32)
    combined = np.concatenate([SMALL, attributes], axis=1)
    if representation == "activations":
        return Network.read(folder / "source.keras", layer=LAYER).outputs(SMALL)
    if representation == "combined_sources":
        scaling = np.load(folder / "scaling.npy")
        predicted = Network.read(folder / "source.keras", scaling).outputs(combined)
        return np.concatenate([combined, predicted], axis=1)
    if representation == "combined":
        return combined
    return SMALL if representation == "elemental_fractions" else attributes


def written(folder, kinds, representation):
    """An ensemble of fitted models, and what these predict, shape (n_folds, n_rows)."""
    members = [fitted(kind, representation, i, **TREES.get(kind, {})) for i, kind in enumerate(kinds, 1)]
    write_ensemble(folder, members, representation)
    features = represented(representation, folder)
    return np.stack([member.predict(features) for member in members])


def assert_close(got, expected, tolerance=NETWORK_ERROR):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= tolerance * expected.std()


@pytest.mark.parametrize(
    ("representation", "kinds"),
    [
        ("elemental_fractions", ["elemnet", "ridge", "base"]),
        ("physical_attributes", ["k_neighbors", "svr", *TREES]),
        ("combined", ["elemnet", "resnet", "extra_trees"]),
        ("activations", ["ridge", "resnet", "extra_trees"]),
        ("combined_sources", ["hist_gradient_boosting", "resnet", "svr"]),
    ],
)
def test_every_representation_and_member_predicts_the_same(representation, kinds, tmp_path, tensorflow):
    expected = written(tmp_path, kinds, representation)
    predictor = load_predictor(tmp_path, threads=2)
    assert_close(predictor.predict_members(FRACTIONS), expected)
    assert_close(predictor.predict(FRACTIONS), expected.mean(axis=0))
    assert_close(predictor.predict_members(FRACTIONS[:5]), expected[:, :5])  # trees are walked together
    if not {"elemnet", "resnet"} & set(kinds):
        assert_close(predictor.predict_members(FRACTIONS), expected, 1e-6)


@pytest.fixture(scope="module")
def blend(tmp_path_factory, tensorflow):
    """The folder of a blend on four representations, some of whose weights are zero; and the folds' predictions."""
    folder = tmp_path_factory.mktemp("made") / "model"
    parts = {
        "part_00": ("extra_trees", "physical_attributes", [0.5, 0.25]),
        "part_01": ("elemnet", "elemental_fractions", [0.25, 0.0]),
        "part_02": ("resnet", "combined", [0.25, 0.25]),
        "part_03": ("svr", "combined_sources", [0.0, 0.25]),
        "part_04": ("hist_gradient_boosting", "combined_sources", [0.0, 0.25]),
    }
    expected = sum(
        np.array(weights)[:, None] * written(folder / name, [kind, kind], representation)
        for name, (kind, representation, weights) in parts.items()
    )
    shutil.copyfile(folder / "part_03" / "source.keras", folder / "part_04" / "source.keras")
    return write_blend(folder, {name: weights for name, (*_, weights) in parts.items()}), expected


def test_blend_weighs_every_fold_whatever_the_number_of_rows_and_threads(blend, monkeypatch):
    monkeypatch.setattr(ensemble, "_ROWS_AT_ONCE", 50)
    folder, expected = blend
    for threads in (1, 3):
        predictor = load_predictor(folder, threads=threads)
        for rows in (0, 1, 2, 33, 120):
            got = predictor.predict_members(FRACTIONS[:rows])
            assert got.shape == (2, rows)
            np.testing.assert_allclose(got, expected[:, :rows], atol=NETWORK_ERROR * expected.std())
    assert len(predictor.members) == 7  # none without weight
    assert len({member.source for member in predictor.members}) == 4, "two parts read the same representation"
    with ThreadPoolExecutor(7) as pool:  # threads that share a predictor
        answers = list(pool.map(lambda k: predictor.predict(FRACTIONS[k::7]), range(7)))
    for k, answer in enumerate(answers):
        np.testing.assert_allclose(answer, predictor.predict(FRACTIONS[k::7]), rtol=1e-5)


def test_rows_and_threads_that_make_no_sense_are_refused(blend):
    for shape in ((86,), (3, 85)):
        with pytest.raises(ShapeMismatchError, match=r"not \(n, 86\)"):
            load_predictor(blend[0]).predict(np.zeros(shape))
    with pytest.raises(DataError, match="threads is 0"):
        load_predictor(blend[0], threads=0)
    with pytest.raises(DataError, match="no composition"):
        load_predictor(blend[0], threads=3).predict(np.full((2000, 86), np.nan))


def test_nothing_heavy_is_imported_to_predict(blend):
    folder, expected = blend
    keep_element_tables(folder / "elements.npz")
    heavy = ("tensorflow", "keras", "jax", "sklearn", "skops", "matminer", "pymatgen", "mlflow")
    code = (
        "import sys, numpy as np; from crossprop.models.saved import load_predictor\n"
        f"print(load_predictor({str(folder)!r}).predict(np.array({FRACTIONS[:3].tolist()})).tolist())\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    kept = dict(os.environ) | {"PYTHONPATH": str(Path(crossprop.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, check=True)
    values, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert_close(np.array(eval(values)), expected.mean(axis=0)[:3])


@dataclass
class Known:
    """A member whose answers and bounds are given."""

    answers: np.ndarray
    weight: float = 1.0
    cost: int = 1
    bounds: tuple[float, float] = (0.0, 10.0)

    @property
    def model(self):
        return self


def within(members, low, high, folds=1):
    """The rows that are left, and their predictions."""
    ask = lambda place, rows: members[place].answers[rows]  # noqa: E731
    left, answers = answers_within(turns(members, folds), len(members[0].answers), low, high, ask)
    values = sum(member.weight / folds * answer for member, answer in zip(members, answers, strict=True))
    return left.tolist(), np.asarray(values).tolist()


def test_what_is_no_number_is_never_left_out_and_a_member_without_bounds_excludes_nothing():
    left, values = within([Known(np.array([np.nan, 1.0]))], 5.0, 6.0)
    assert (left, np.isnan(values[0])) == ([0], True)
    unbounded = Known(np.array([100.0, -100.0]), weight=0.1, cost=10**9, bounds=(-np.inf, np.inf))
    assert within([Known(np.array([0.0, 10.0]), weight=0.9), unbounded], 9.5, np.inf)[0] == [0]


@given(MEMBERS, NUMBERS, SIZES, st.integers(0, 2**32 - 1))
def test_every_row_of_the_range_is_left_with_its_value(described, low, width, seed):
    rng = np.random.default_rng(seed)
    members = [
        Known(rng.choice([least, least + room / 2, least + room], 40), weight, cost, (least, least + room))
        for weight, cost, least, room in described
    ]
    values = sum(member.weight / 2 * member.answers for member in members)
    left, got = within(members, low, low + width, folds=2)
    inside = np.flatnonzero((values >= low) & (values <= low + width))
    assert set(inside.tolist()) <= set(left)
    np.testing.assert_allclose(got, values[left], rtol=1e-9, atol=1e-9)


def test_blend_gives_its_ordinary_predictions_within_a_range_and_asks_less(tmp_path, monkeypatch):
    parts = {"extra_trees": [0.8, 0.7], "svr": [0.1, 0.15], "ridge": [0.1, 0.15]}
    for kind in parts:
        written(tmp_path / kind, [kind, kind], "physical_attributes")
    predictor = load_predictor(write_blend(tmp_path, parts))
    expected = predictor.predict(FRACTIONS)
    asked, ask = [], predictor._ask
    monkeypatch.setattr(predictor, "_ask", lambda place, rows: asked.append(len(rows)) or ask(place, rows))
    for low, high in ((np.quantile(expected, 0.9), np.inf), (-np.inf, np.quantile(expected, 0.2))):
        asked.clear()
        left, values = predictor.predict_within(FRACTIONS, low, high)
        inside = np.flatnonzero((expected >= low) & (expected <= high))
        assert set(inside) <= set(left)
        np.testing.assert_allclose(values, expected[left], rtol=1e-12)
        assert sum(asked) < 0.9 * 6 * len(FRACTIONS)
