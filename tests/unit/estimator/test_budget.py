"""From minutes to a plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crossprop.estimator.budget import FITS, STUDIES, Effort
from crossprop.estimator.learn import Plan, Settings, choose_plan
from crossprop.estimator.pretrained import RECIPES, SourceNetworks
from crossprop.methods import Method, Side


def plan(n_rows: int, minutes: float | None, networks: SourceNetworks | None = None, **settings) -> Plan:
    return choose_plan(n_rows, n_rows, Settings(minutes=minutes, workers=1, **settings), networks)


def test_more_minutes_never_plan_less_and_more_rows_take_longer():
    efforts = [list(FITS).index(plan(300, m).params.study.tier) for m in (0.05, 0.3, 1, 3, 10, 60)]
    assert efforts == sorted(efforts)
    assert (efforts[0], efforts[-1]) == (0, len(FITS) - 1)
    few, many = (plan(n, None).seconds for n in (300, 20_000))
    assert many > 3 * few


def test_all_levels_of_effort_are_of_one_ordered_set():
    order = list(Effort)
    for known in (list(FITS), list(STUDIES), [Effort(recipe.name) for recipe in RECIPES]):
        assert [order.index(effort) for effort in known] == sorted(order.index(effort) for effort in known)


@pytest.mark.parametrize("minutes", [0.5, 2, 10])
def test_a_plan_fits_into_its_minutes(minutes):
    assert plan(500, minutes).seconds <= 60 * minutes


def test_what_was_left_out_is_said_and_where_even_the_least_takes_too_long():
    said = " ".join(plan(300, 0.3).notes)
    assert "resnet" in said
    assert "10 folds instead of 3" in said
    assert "16 trials of a regressor" in said
    assert plan(300, None).notes == ()
    made = plan(20_000, 0.01)
    assert made.params.study.tier == "trial"
    assert made.notes[-1].startswith("even the least effort takes about")


@pytest.mark.parametrize("elemnets", [None, (), ("band_gap",)])
def test_transfer_methods_are_those_that_the_networks_allow(elemnets):
    networks = None
    if elemnets is not None:
        networks = SourceNetworks(Path(), "quick", ("band_gap",), elemnets, np.array([], np.uint64))
    methods = plan(300, None, networks).params.study.methods
    assert any(method.side is Side.TRANSFER for method in methods) is (networks is not None)
    assert (Method.RESNET_FINETUNE in methods) is (networks is not None)
    assert (Method.FINETUNE in methods) is bool(elemnets)


def test_what_is_asked_for_is_kept():
    study = plan(300, 0.1, methods=[Method.BOOST, Method.BASE], folds=7, trials=3).params.study
    assert study.methods == (Method.BASE, Method.BOOST)
    assert (study.folds, study.budget.ml_trials) == (7, 3)


@pytest.mark.parametrize(
    ("rows", "minutes", "planned"), [(300, 1, True), (20_000, 1, False), (100_000, None, False)]
)
def test_plain_models_are_planned_where_time_and_memory_allow(rows, minutes, planned):
    assert (Method.PLAIN_MEDIAN in plan(rows, minutes).params.study.methods) is planned


def test_a_fold_holds_three_compositions():
    assert choose_plan(60, 13, Settings(folds=9)).params.study.folds == 4
