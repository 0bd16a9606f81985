"""One batch: the same survivors whatever the order, no needless prediction; the plan from a sample."""

from dataclasses import replace

import numpy as np
import pytest

from crossprop.data.compositions import ELEMENTS
from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.conditions import read_conditions
from crossprop.screening.pipeline import Pipeline, calibrate, count_possible
from crossprop.screening.request import resolve_elements
from crossprop.screening.space import ElementSpace, ListedSpace


@pytest.fixture
def pipeline(linear):
    """Two properties over a small space: 100 times the share of iron (a) and of aluminium (b)."""

    def make(where=None, in_domain=False, **options):
        made = {"a": linear("a", "Fe"), "b": linear("b", "Al", seen=("Fe", "Al", "Co"))}
        space = ElementSpace(("O", "Al", "Fe", "Co"), min_elements=1, max_elements=3, max_atoms=8)
        described, models = zip(*made.values(), strict=True)
        conditions = read_conditions(where, in_domain, ("a", "b"))
        served = dict(zip("ab", models, strict=True))
        return Pipeline(space, described, served, ("a", "b"), conditions, **options)

    return make


def whole(pipeline):
    return pipeline.run(0, pipeline.space.total)[1].to_pandas()


def test_without_conditions_everything_is_kept_with_its_intervals(pipeline):
    made = pipeline(rows=50)
    frame = whole(made)
    assert frame["position"].tolist() == list(range(made.space.total))
    share = made.space.block(0, made.space.total).fractions()
    assert frame["a"].to_numpy() == pytest.approx(100 * share[:, ELEMENTS.index("Fe")])
    assert (frame["a_upper"] - frame["a"]).to_numpy() == pytest.approx(2.0)
    assert frame["b_in_domain"].tolist() == (~frame["formula"].str.contains("O[0-9]|O$")).tolist()
    assert frame["note"][frame["formula"] == "O"].item().startswith("b: O was never seen")
    inside = whole(pipeline(in_domain=True))
    assert inside["formula"].tolist() == frame["formula"][frame["b_in_domain"]].tolist()
    fields = made.run(0, 50)[1].schema
    assert fields.field("a").metadata == {b"unit": b"GPa", b"model": b"a"}
    assert fields.field("b_lower").metadata == {b"unit": b"GPa", b"model": b"b", b"coverage": b"0.9"}
    considered, kept = pipeline("a > 1000 and b.lower > 3").run(0, 20)
    assert (considered, kept.num_rows) == (20, 0)


def test_order_of_the_properties_does_not_matter(pipeline):
    for where in (
        "a > 40 and b > 20",
        "b.lower > 20 and a.upper < 60",
        "a + b > 80 and Fe > 0.5",
        "a > 40 or b.in_domain",
        "a.lower > b.upper",
    ):
        made = pipeline(where)
        one, other = whole(made), whole(replace(made, order=("b", "a"), rows=7))
        assert 0 < len(one) < made.space.total
        assert one.equals(other)


def test_only_survivors_reach_the_next_model_and_nothing_is_predicted_twice(pipeline):
    made = pipeline("a > 60 and b.lower > 10")
    frame = whole(made)
    assert made.models["a"].predictor.rows == made.space.total
    values = made.space.block(0, made.space.total).fractions()[:, ELEMENTS.index("Fe")] * 100
    assert made.models["b"].predictor.rows == (values > 60).sum()
    assert (frame["b"] > 12).all()


def test_models_are_told_the_range_and_the_result_is_that_of_all_values(pipeline):
    made = pipeline("a > 40 and b.lower >= 20 and a.upper < 65")
    everything = whole(pipeline())
    expected = everything.query("a > 40 and b_lower >= 20 and a_upper < 65").reset_index(drop=True)
    assert 0 < len(expected) < made.space.total
    assert whole(made).equals(expected)
    assert made.models["a"].predictor.asked == pytest.approx((40, 65))
    assert made.models["b"].predictor.asked == pytest.approx((20, np.inf))


def test_condition_on_the_composition_comes_before_any_prediction(pipeline):
    made = pipeline("a > 10 and Co == 0 and n_elements == 2")
    predicted, table = made.run(0, made.space.total)
    frame = table.to_pandas()
    # three pairs of O, Al, Fe; 21 ratios of at most 8 atoms each
    assert made.models["a"].predictor.rows == predicted == 63
    assert len(frame) == made.models["b"].predictor.rows < 63


def test_chemistry_and_known_compositions_are_left_out_before_predictions(pipeline, linear):
    made = pipeline(chemistry=ChargeBalance())
    everything = whole(made)
    assert {"Fe2O3", "Al2O3", "CoO"} <= set(everything["formula"])
    assert "FeAl" not in set(everything["formula"])
    _, served = linear("a", "Fe", data=("Fe4O6", "AlO1.5"))
    novel = whole(replace(made, known=frozenset(served.evidence["composition"])))
    assert set(everything["formula"]) - set(novel["formula"]) == {"Fe2O3", "Al2O3"}


def test_a_formula_of_a_file_that_may_be_meant_otherwise_says_so_in_its_note(pipeline):
    frame = whole(replace(pipeline(), space=ListedSpace(("Fe203", "FeAl", "AlO200"))))
    doubted, plain, both = frame["note"]
    assert (plain, doubted.partition(":")[0]) == ("", "the amount 203 of Fe in 'Fe203' is large for a compound")
    assert both.startswith("the amount 200 of O in 'AlO200'")
    assert "; b: O was never seen" in both


def test_calibration_measures_a_sample(pipeline):
    order, seconds = calibrate(pipeline("b > 50"))
    assert order == ("b", "a")
    assert seconds > 0
    assert calibrate(pipeline("a > 10 and b > 10 and a + b > 50"))[0] in (("a", "b"), ("b", "a"))
    assert calibrate(pipeline("a + b > 50"))[0] == ("a", "b"), "nothing can be spared: as it was asked"
    assert calibrate(pipeline("b > 50"), ("a", "b"))[0] == ("a", "b")
    impossible = replace(pipeline(), chemistry=ChargeBalance(), space=ElementSpace(("Na", "K")))
    assert calibrate(impossible) == (("a", "b"), 0.0)


def test_count_is_exact_in_time_and_an_estimate_beyond():
    space = ElementSpace(resolve_elements("O,S,3d-metals,alkali-metals"), max_elements=3, max_atoms=8)
    rules = ChargeBalance()
    assert count_possible(space, rules) == (int(rules.keep(space.block(0, space.total)).sum()), True)
    assert count_possible(space, None) == (space.total, True)
    large = ElementSpace(ELEMENTS, max_elements=3, max_atoms=8)
    estimate = count_possible(large, rules, seconds=0.0)
    assert not estimate.exact
    assert 0.05 * large.total < estimate.compositions < 0.9 * large.total
