"""From minutes to a plan."""

from __future__ import annotations

import pytest

from crossprop.estimator.budget import EFFORTS, plan_effort
from crossprop.methods import Method, Side


def test_more_minutes_never_plan_less():
    efforts = [
        [effort.name for effort in EFFORTS].index(plan_effort(300, minutes=m, workers=1).effort.name)
        for m in (0.05, 0.3, 1, 3, 10, 60)
    ]
    assert efforts == sorted(efforts)
    assert efforts[0] == 0
    assert efforts[-1] == len(EFFORTS) - 1


def test_more_rows_take_longer():
    few, many = (plan_effort(n, minutes=None, workers=1).seconds for n in (300, 20_000))
    assert many > 3 * few


def test_a_plan_fits_into_its_minutes():
    for minutes in (0.5, 2, 10):
        assert plan_effort(500, minutes=minutes, workers=1).seconds <= 60 * minutes


def test_too_few_minutes_give_the_least_effort_and_the_time_that_it_takes():
    plan = plan_effort(20_000, minutes=0.01, workers=1)
    assert plan.effort.name == "glance"
    assert plan.seconds > 0.6


def test_what_was_left_out_is_said():
    said = " ".join(plan_effort(300, minutes=0.3, workers=1).left_out)
    assert "resnet" in said
    assert "10 folds instead of 3" in said
    assert "16 trials of a regressor" in said
    assert plan_effort(300, minutes=None, workers=1).left_out == ()


def test_without_networks_nothing_transfers():
    methods = plan_effort(300, minutes=None).methods
    assert not [m for m in methods if m.side is Side.TRANSFER]


@pytest.mark.parametrize(("joint", "elemnets"), [(True, 0), (True, 2)])
def test_transfer_methods_are_those_that_the_networks_allow(joint, elemnets):
    methods = plan_effort(300, minutes=None, joint=joint, elemnets=elemnets).methods
    assert Method.RESNET_FINETUNE in methods
    assert (Method.FINETUNE in methods) is (elemnets > 0)


def test_what_is_asked_for_is_kept():
    plan = plan_effort(300, minutes=0.1, methods=[Method.BOOST, Method.BASE], folds=7, trials=3)
    assert plan.methods == (Method.BASE, Method.BOOST)
    assert (plan.folds, plan.effort.trials, plan.effort.network_trials) == (7, 3, 3)
