"""The model with its evidence: written beside it, read back, and the same numbers everywhere."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_evidence import made_evidence, write_model

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.inference.predictor import ServedModel
from crossprop.io import write_digests
from crossprop.uncertainty.evidence import folder_coverage, write_evidence

FORMULAS = ["FeO", "KI", "Ba2O3", "XeI", "U3Cs"]


@pytest.fixture(scope="module")
def evidence() -> pd.DataFrame:
    return made_evidence()


@pytest.fixture
def folder(tmp_path, evidence):
    """A saved model."""
    return write_model(tmp_path, evidence)


@pytest.fixture
def model(folder) -> ServedModel:
    return ServedModel.load(folder)


def test_model_without_a_hold_out_has_intervals_but_no_measured_error(tmp_path, evidence):
    model = ServedModel.load(write_model(tmp_path, evidence[evidence["split"] == "train"]))
    assert model.holdout_mae is None
    assert (model.coverage().stated, model.coverage().share, model.coverage().n) == (0.9, None, 0)
    assert model.predict(fraction_matrix(FORMULAS)).in_domain.tolist() == [True, True, True, False, False]


def test_interval_is_wide_where_the_model_erred_and_notes_say_what_it_does_not_know(model):
    got = model.predict(fraction_matrix(FORMULAS))
    assert got.value.tolist() == [50.0] * 5
    width = got.upper - got.lower
    assert width[1] > 3 * width[0]
    assert got.in_domain.tolist() == [True, True, True, False, False]
    assert got.note[:3] == ["", "", ""]
    assert got.note[3].startswith("Xe was never seen in training")
    assert "Cs, U were never seen" in got.note[4]
    assert "; the nearest training composition, " in got.note[4]


def test_value_beyond_all_known_ones_is_told_and_stays_in_the_domain(folder, evidence):
    model = ServedModel.load(folder)
    assert evidence["y_true"].between(30, 70).all()
    for value, words in ((90.0, "above all 216 known values"), (9.0, "below all 216 known values")):
        constant = SimpleNamespace(info=model.info, predict=lambda x, v=value: np.full(len(x), v))
        got = replace(model, predictor=constant).predict(fraction_matrix(["FeO", "XeI"]))
        assert got.in_domain.tolist() == [True, False]
        assert got.note[0].startswith(words)
        assert got.note[0].endswith(" GPa")
        assert f"; {words}" in got.note[1]


def test_values_come_alone_on_request_and_no_row_gives_empty_arrays(model):
    got = model.predict(fraction_matrix(FORMULAS), intervals=False)
    assert got.value.tolist() == [50.0] * 5
    assert (got.lower, got.upper, got.in_domain, got.note) == (None, None, None, None)
    none = model.predict(np.zeros((0, 86)))
    assert (len(none.value), len(none.lower), len(none.in_domain), none.note) == (0, 0, 0, [])
    with pytest.raises(ShapeMismatchError, match=r"shape \(86,\)"):
        model.predict(np.ones(86))


def test_nearest_are_training_compositions_with_their_values(model, evidence):
    train = evidence[evidence["split"] == "train"].set_index("formula")
    known = train.index[0]
    first, *others = model.nearest(fraction_matrix([known]), 4)[0]
    assert (first.formula, first.distance) == (known, 0.0)
    assert first.y_true == pytest.approx(train.loc[known, "y_true"])
    assert len(others) == 3
    assert all(other.formula in train.index and other.distance > 0 for other in others)
    assert model.nearest(fraction_matrix([known]), 0) == [[]]
    alone = replace(model, calibration=replace(model.calibration, radius=None))
    assert [n.distance for n in alone.nearest(fraction_matrix([known]), 3)[0]] == [0.0, None, None]


def test_coverage_is_that_of_the_hold_out(model, folder, evidence):
    rows = evidence[evidence["split"] == "test"]
    coverage = folder_coverage(folder)
    assert coverage == model.coverage()
    judged = model.calibration.judge(rows["y_pred"].to_numpy(), fraction_matrix(rows["formula"]))
    held = (judged.lower <= rows["y_true"]) & (rows["y_true"] <= judged.upper)
    assert (coverage.stated, coverage.n) == (0.9, 60)
    assert coverage.share == pytest.approx(held.mean())
    errors = (rows["y_true"] - rows["y_pred"]).abs()
    assert model.holdout_mae == coverage.mae == pytest.approx(errors.mean())
    outside = np.array([bool(note) for note in judged.notes])
    assert coverage.flagged == pytest.approx(outside.mean())
    assert coverage.mae_inside == pytest.approx(errors[~outside].mean())


def test_intervals_of_another_coverage_come_from_the_same_evidence(model):
    assert model.with_coverage(0.9).calibration.scale == pytest.approx(model.calibration.scale)
    half = model.with_coverage(0.5)
    assert half.calibration.scale < 0.6 * model.calibration.scale
    assert half.coverage().stated == 0.5
    assert half.coverage().share == pytest.approx(0.5, abs=0.2)  # of 60 rows


def test_evidence_again_leaves_the_same_bytes_and_in_another_order_the_same_numbers(folder, evidence):
    def content():
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before, given = content(), ServedModel.load(folder).predict(fraction_matrix(FORMULAS))
    write_evidence(folder, evidence)
    assert content() == before
    write_evidence(folder, evidence.sample(frac=1, random_state=1))
    after = ServedModel.load(folder).predict(fraction_matrix(FORMULAS))
    assert after.lower == pytest.approx(given.lower, rel=1e-9)
    assert after.note == given.note


@pytest.mark.parametrize("name", ["evidence.parquet", "calibration/points.npy", "calibration/axes.npy"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_damaged_evidence_is_refused_by_name(folder, name, damage):
    path = folder / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelFormatError, match=name.replace(".", r"\.")):
        ServedModel.load(folder)
    write_digests(folder)  # also where the digests are those of the damaged files
    with pytest.raises(ModelFormatError, match=r"evidence of .* cannot be read|no digest of"):
        ServedModel.load(folder)


@pytest.mark.parametrize("column", ["y_true", "y_pred_single", None])
def test_evidence_without_numbers_or_training_is_refused_and_the_model_left_alone(folder, evidence, column):
    before = (folder / "model.json").read_bytes()
    spoilt = evidence[evidence["split"] == "test"] if column is None else evidence.copy()
    if column is not None:
        spoilt.loc[3, column] = np.nan
    with pytest.raises(ModelFormatError, match="lacks training rows or holds values that are no numbers"):
        write_evidence(folder, spoilt)
    assert (folder / "model.json").read_bytes() == before
