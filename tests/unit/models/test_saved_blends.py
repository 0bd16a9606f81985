"""Saved blends: the weighted mean of saved ensembles, or refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import ModelFormatError
from crossprop.models.saved import BlendedPredictor, Predictor, load_predictor
from crossprop.training.trainer import fit_base

ROWS = np.eye(86)[:4]


def write_info(folder, **info):
    folder.mkdir(parents=True, exist_ok=True)
    given = {"format": 1, "target": "slme", "elements": list(ELEMENTS)}
    (folder / "model.json").write_text(json.dumps(given | info), encoding="utf-8")


@pytest.fixture
def blend(tmp_path):
    """A blend of two constant ensembles: 10 and 20, then 100 and 200; returns its folder."""
    for name, values in (("part_00", (10.0, 20.0)), ("part_01", (100.0, 200.0))):
        for k, value in enumerate(values):
            fit_base(np.array([value])).save(tmp_path / name / f"fold_{k:02d}")
        write_info(
            tmp_path / name, representation="elemental_fractions", layer=None, members=["fold_00", "fold_01"]
        )
    write_info(tmp_path, method="blend", parts={"part_00": [0.5, 1.0], "part_01": [0.5, 0.0]})
    return tmp_path


def test_every_fold_is_blended_with_its_own_weights(blend):
    predictor = load_predictor(blend)
    assert isinstance(predictor, BlendedPredictor)
    assert predictor.predict_members(ROWS).tolist() == [[55.0] * 4, [20.0] * 4]
    assert predictor.predict(ROWS).tolist() == [37.5] * 4


def test_blend_is_read_from_a_path_given_as_text(blend):
    assert load_predictor(str(blend)).predict(ROWS[:1]).tolist() == [37.5]


def test_part_of_a_blend_is_a_model_by_itself(blend):
    part = load_predictor(blend / "part_01")
    assert isinstance(part, Predictor)
    assert part.predict(ROWS).tolist() == [150.0] * 4


def test_no_row_gives_no_prediction(blend):
    assert load_predictor(blend).predict(np.zeros((0, 86))).shape == (0,)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "parts and weights do not match"),
        (["part_00", "part_01"], "parts and weights do not match"),
        (None, "parts and weights do not match"),
        ({"part_00": [1.0]}, "parts and weights do not match"),
        ({"part_00": 1.0, "part_01": [0.5, 0.5]}, "parts and weights do not match"),
        ({"part_00": [0.5, 0.5], "part_01": [0.5, 0.5, 0.5]}, "parts and weights do not match"),
        ({"part_00": [0.5, 0.5], "part_07": [0.5, 0.5]}, r"part_07 holds no readable model\.json"),
    ],
)
def test_blend_whose_parts_do_not_fit_is_refused(blend, parts, message):
    write_info(blend, method="blend", parts=parts)
    with pytest.raises(ModelFormatError, match=message):
        load_predictor(blend)


def test_part_of_another_format_is_refused(blend):
    write_info(blend / "part_01", format=3)
    with pytest.raises(ModelFormatError, match="part_01 has format 3"):
        load_predictor(blend)


def test_part_without_its_members_is_refused(blend):
    (blend / "part_01" / "fold_01" / "member.json").unlink()
    with pytest.raises(ModelFormatError, match="fold_01 holds no complete model"):
        load_predictor(blend)
