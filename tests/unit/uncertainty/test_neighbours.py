"""Where compositions lie, which are near each other, and which are too far from all."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_evidence import made_evidence

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.uncertainty import neighbours
from crossprop.uncertainty.conformal import Calibration
from crossprop.uncertainty.neighbours import CompositionSpace, Neighbourhood, training_compositions

FORMULAS = ["NaCl", "KCl", "LiF", "MgO", "CaO", "Fe2O3", "Cr2O3", "GaAs", "GaP", "Si", "Ge", "NaBr"]


def test_spellings_lie_on_one_point_and_alike_compositions_nearer_than_unlike_ones():
    space = CompositionSpace.fit(fraction_matrix(FORMULAS))
    points = space.points(fraction_matrix(["NaCl", "ClNa", "Na2Cl2", "Na0.5Cl0.5"]))
    assert np.ptp(points, axis=0).max() < 1e-5
    salt, potash, *unlike = space.points(fraction_matrix(["NaCl", "KCl", "Si", "Fe2O3", "NaCl2"]))
    distance = np.linalg.norm(np.stack(unlike) - salt, axis=1)
    assert np.linalg.norm(potash - salt) < distance[:2].min() / 2
    assert distance[2] > 0.1


def around(formulas: list[str]) -> Neighbourhood:
    fractions = fraction_matrix(formulas)
    space = CompositionSpace.fit(fractions)
    table = pd.DataFrame({"formula": formulas, "value": 1.0, "residual": 1.0, "rows": 1})
    return Neighbourhood(space, space.points(fractions), table)


def test_nearest_come_in_order_and_a_training_composition_is_its_own_at_distance_zero():
    distances, positions = around(FORMULAS).nearest(fraction_matrix(["GaAs", "K2Cl2"]), 3)
    assert [FORMULAS[i] for i in positions[:, 0]] == ["GaAs", "KCl"]
    assert distances[:, 0].tolist() == [0.0, 0.0]
    assert (np.diff(distances, axis=1) > 0).all()
    _, everything = around(FORMULAS[:4]).nearest(fraction_matrix(["Si"]), 10)
    assert sorted(everything[0]) == [0, 1, 2, 3]


def test_a_training_composition_is_none_of_its_others_even_among_equal_points():
    here = around([*FORMULAS, "Na2Cl2", "Na3Cl3", "Na4Cl4"])
    distances, others = here.nearest_others(2)
    assert (others != np.arange(15)[:, None]).all()
    assert others.shape == distances.shape == (15, 2)
    assert distances[0].tolist() == pytest.approx([0.0, 0.0], abs=1e-5)


def test_compositions_of_one_group_are_no_others_also_where_it_is_large(monkeypatch):
    here = around(FORMULAS)
    groups = [*"aaabb", *map(str, range(len(FORMULAS) - 5))]
    grouped, alone = replace(here, compositions=here.compositions.assign(group=groups)), here.nearest_others(4)
    distances, others = expected = grouped.nearest_others(4)
    assert (distances[:3] >= alone[0][:3]).all()
    assert not {0, 1, 2} & set(others[:3].ravel())
    assert others[5:].tolist() == alone[1][5:].tolist()
    monkeypatch.setattr(neighbours, "_LARGE", 1)
    for found, wanted in zip(grouped.nearest_others(4), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_rows_of_one_composition_become_one_with_their_median():
    columns = ["formula", "composition", "y_true", "y_pred"]
    salts = [("NaCl", "a", 1.0, 2.0), ("Na2Cl2", "a", 5.0, 2.0), ("ClNa", "a", 3.0, 2.0)]
    evidence = pd.DataFrame([*salts, ("KCl", "b", 7.0, 7.0)], columns=columns).assign(split="train")
    held_out = evidence.iloc[:1].assign(split="test", composition="c")
    table = training_compositions(pd.concat([evidence, held_out]))
    assert table.loc["a"].tolist() == ["NaCl", 3.0, pytest.approx(5 / 3), 3]
    assert table.index.tolist() == ["a", "b"]


def test_a_property_that_is_nearly_constant_in_training_tells_no_compositions_apart():
    light = [
        f"{a}{b}{n}" for a in ("Li", "Na", "K", "Mg", "Ca", "Al", "Zr") for b in ("O", "S", "F") for n in (1, 2, 3)
    ]
    here = around(light)  # the magnetic moment of the elements is about 1e-5 among them, 0.6 to 2.1 of Fe, Co, Ni
    distances, _ = here.nearest(fraction_matrix(["FeO", "ZnO"]), 1)
    assert distances[0, 0] < 10 * distances[1, 0] < 100


def test_auxiliary_rows_are_near_but_have_no_error():
    evidence = made_evidence()
    odd = pd.DataFrame({"formula": ["U3Cs"], "split": "auxiliary", "y_true": 48.0})
    odd["composition"] = composition_keys(fraction_matrix(odd["formula"]))
    before, after = Calibration.fit(evidence), Calibration.fit(pd.concat([evidence, odd]))
    asked = np.array([50.0]), fraction_matrix(["U3Cs"])
    assert "farther away" in before.judge(*asked).notes[0]
    judged = after.judge(*asked)
    assert judged.notes == [""]
    assert (
        0 < judged.upper[0] - judged.lower[0] < 0.5 * np.ptp([before.judge(*asked).lower, before.judge(*asked).upper])
    )
    assert after.around.compositions.loc[odd["composition"][0], ["value", "rows"]].tolist() == [48.0, 0]


def test_two_training_compositions_in_a_hundred_lie_farther_than_the_radius():
    calibration = Calibration.fit(made_evidence(held_out=16))  # 200 to learn from
    distances, _ = calibration.around.nearest_others(1)
    assert (distances[:, 0] > calibration.radius).sum() == 4


def test_a_far_composition_is_out_of_the_domain_and_told_which_is_the_nearest():
    calibration = Calibration.fit(made_evidence())
    near, far = calibration.judge(np.array([50.0, 50.0]), fraction_matrix(["Fe3O4", "U3Cs"])).notes
    assert near == ""
    place = calibration.around.nearest(fraction_matrix(["U3Cs"]), 1)[1][0, 0]
    nearest = calibration.around.compositions["formula"].iloc[place]
    assert far == (
        f"the nearest training composition, {nearest}, is farther away than 98 % of the training compositions are "
        "from their nearest one: an extrapolation"
    )
    few = Calibration.fit(made_evidence().iloc[:120])  # 60 to learn from: one width for all
    note = few.judge(np.array([50.0]), fraction_matrix(["U3Cs"])).notes[0]
    assert note.endswith("expect larger errors than the interval says")
