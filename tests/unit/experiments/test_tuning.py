"""Search spaces, and tuning on a function that costs nothing: what is tried, in which order, what survives a kill."""

from __future__ import annotations

import itertools
import math

import pytest

from crossprop.config import Range, Recipe, SearchConfig
from crossprop.errors import CellError, ConfigError, DivergedError, StoreError
from crossprop.experiments.tuning import MethodSpace, algorithm_arguments, tune
from crossprop.methods import Method

RATE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
SEARCH = SearchConfig.model_validate(
    {
        "ml": {
            "defaults_first": 2,
            "shared": {"target_transform": {"choices": ["arcsinh", "identity"], "default": "arcsinh"}},
            "algorithms": {
                "ridge": {"alpha": {"low": 0.1, "high": 10.0, "default": 1.0}},
                "k_neighbors": {"n_neighbors": {"low": 2, "high": 9, "integer": True, "default": 5}},
                "linear": {},
            },
        },
        "extension": {
            "defaults_first": 1,
            "algorithms": {"svr": {"C": {"low": 0.3, "high": 30.0, "default": 3.0}}, "extra_trees": {}},
        },
        "dl": RATE,
        "finetune": {**RATE, "epochs": {"low": 1, "high": 9, "integer": True}},
        "layers": ["hidden_03", "hidden_16"],
        "default_layer": "hidden_16",
    }
)
RIDGE = {"target_transform": "arcsinh", "algorithm": "ridge", "ridge.alpha": 1.0}
NEIGHBOURS = {"target_transform": "arcsinh", "algorithm": "k_neighbors", "k_neighbors.n_neighbors": 5}
LAYER = {"layer": "hidden_16"}
BOOSTED = [{"algorithm": "svr", "svr.C": 3.0}]
DRAWN, TUNED = {"learning_rate": 1e-3}, {"learning_rate": 1e-3, "epochs": 1}


@pytest.mark.parametrize(
    ("method", "defaults"),
    [
        (Method.ML, [RIDGE, NEIGHBOURS]),
        (Method.ML_FEATEXTR, [RIDGE | LAYER, NEIGHBOURS | LAYER]),
        (Method.BOOST, BOOSTED),
        (Method.BOOST_SOURCES, BOOSTED),
        (Method.DL, [DRAWN]),
        (Method.DL_FEATEXTR, [DRAWN | LAYER]),
        (Method.FREEZING, [DRAWN]),
        (Method.RESNET, [DRAWN]),
        (Method.FINETUNE, [TUNED]),
        (Method.MODFINETUNE, [TUNED]),
        (Method.RESNET_FINETUNE, [TUNED]),
    ],
)
def test_first_trials_are_the_defaults_and_feature_extraction_alone_chooses_a_layer(method, defaults):
    recipe = Recipe(epochs=1, batch_size=2, learning_rate=1e-3) if method.architecture else None
    space = MethodSpace.of(method, SEARCH, recipe)
    assert space.defaults() == defaults
    assert list(space.layers) == (["hidden_03", "hidden_16"] if "layer" in defaults[0] else [])


def test_network_without_a_recipe_is_refused():
    with pytest.raises(ConfigError, match="dl fits a network, but the study gives it no recipe"):
        MethodSpace.of(Method.DL, SEARCH)


def test_drawn_points_lie_in_the_space_and_hold_the_arguments_of_their_algorithm_alone():
    points = []
    space = MethodSpace.of(Method.ML_FEATEXTR, SEARCH)
    tune("cell", space, lambda point, report: points.append(point) or 1.0, n_trials=40, seconds=1e6, seed=1)
    arguments = {"ridge": {"alpha"}, "k_neighbors": {"n_neighbors"}, "linear": set()}
    for point in points:
        found = algorithm_arguments(point)
        assert set(found) == arguments[point["algorithm"]]
        assert len(point) == 3 + len(found)
        assert 0.1 <= found.get("alpha", 1.0) <= 10.0
        assert found.get("n_neighbors", 2) in range(2, 10)
    for name, choices in (("algorithm", set(arguments)), ("layer", {"hidden_03", "hidden_16"})):
        assert {point[name] for point in points} == choices
    assert algorithm_arguments(DRAWN) == {}


SPACE = MethodSpace(
    {"shift": Range(low=-1.0, high=1.0, default=0.5)},
    {
        "first": {"x": Range(low=0.0, high=4.0, default=1.0)},
        "second": {"n": Range(low=1, high=64, log=True, integer=True, default=8)},
        "third": {},
    },
    (),
    None,
    defaults_first=2,
)


def valley(point, report=None) -> float:
    """Least where `first.x` is 3 and the shift 0; `second` and `third` are worse."""
    if point["algorithm"] == "first":
        return (point["first.x"] - 3) ** 2 + abs(point["shift"])
    return 10 + abs(point["shift"]) + point.get("second.n", 0)


def run(objective=valley, **options):
    given = {"n_trials": 12, "seconds": 1e6, "seed": 5, "journal": None, **options}
    return tune(given.pop("name", "cell"), given.pop("space", SPACE), objective, **given)


def without_times(trials):
    return trials.drop(columns="seconds")


def test_defaults_are_the_first_trials_and_the_least_value_is_the_best():
    seen = []
    outcome = run(lambda point, report: seen.append(point) or valley(point), n_trials=30)
    assert seen[0] == {"shift": 0.5, "algorithm": "first", "first.x": 1.0}
    assert seen[1] == {"shift": 0.5, "algorithm": "second", "second.n": 8}
    assert outcome.trials["number"].tolist() == list(range(30)) == list(range(len(seen)))
    assert set(outcome.trials["state"]) == {"COMPLETE"}
    assert math.isnan(outcome.trials.loc[1, "params_first.x"])  # a trial of another algorithm
    assert outcome.value == outcome.trials["value"].min() < 4.5
    assert valley(outcome.best) == outcome.value
    assert run(lambda point, report: 1.0).best == seen[0]  # the earlier of equals


def test_same_seed_draws_the_same_trials_and_another_seed_others():
    first, second, other = (without_times(run(seed=seed).trials) for seed in (5, 5, 6))
    assert first.equals(second)
    assert not first.equals(other)
    assert first["params_shift"].iloc[2:].is_unique  # every trial draws anew


def with_rung(point, report):
    report(1, valley(point))
    return valley(point)


@pytest.mark.parametrize("every", [1, 3, 5])
def test_study_killed_within_trials_again_and_again_comes_to_the_same_end(tmp_path, every):
    class Killed(BaseException):
        """Stands for SIGKILL: nothing between the trial's beginning and its end is written."""

    straight = run(with_rung, n_trials=20, journal=tmp_path / "straight.log")
    states = straight.trials["state"]
    assert states.tolist()[:2] == ["COMPLETE", "COMPLETE"]  # the defaults run to their end
    assert "PRUNED" in set(states)
    assert straight.value == straight.trials.loc[states == "COMPLETE", "value"].min()
    number = itertools.count(1)

    def mortal(point, report):
        if not next(number) % (every + 1):
            raise Killed
        return with_rung(point, report)

    for _ in range(3):
        with pytest.raises(Killed):
            run(mortal, n_trials=20, journal=tmp_path / "resumed.log")
    for n_trials in (19, 20, 20):  # a finished study is not run again
        resumed = run(with_rung, n_trials=n_trials, journal=tmp_path / "resumed.log")
    assert without_times(resumed.trials).equals(without_times(straight.trials))
    assert resumed.best == straight.best
    other = run(lambda point, report: 7.0, journal=tmp_path / "resumed.log", name="another cell", n_trials=2)
    assert other.trials["value"].tolist() == [7.0, 7.0]


@pytest.mark.parametrize(
    "outcome",
    [*(kind("no") for kind in (DivergedError, CellError, ValueError, ZeroDivisionError)), math.nan],
)
def test_trial_that_fails_is_noted_and_the_others_go_on(outcome):
    def second_fails(point, report):
        if point["algorithm"] == "second" and isinstance(outcome, Exception):
            raise outcome
        return outcome if point["algorithm"] == "second" else valley(point)

    done = run(second_fails)
    failed = done.trials[done.trials["state"] == "FAIL"]
    assert 1 in failed["number"].tolist()
    assert set(failed["params_algorithm"]) == {"second"}
    assert len(done.trials) == 12
    assert done.best["algorithm"] != "second"


def test_error_that_is_no_trials_fault_ends_the_study():
    with pytest.raises(RuntimeError, match="out of memory"):
        run(lambda point, report: (_ for _ in ()).throw(RuntimeError("out of memory")))


def test_study_without_one_success_says_how_many_failed_and_why():
    def diverges(point, report):
        raise DivergedError(f"the loss is nan at x = {point.get('first.x')}")

    with pytest.raises(
        CellError, match=r"none of the 3 trials of cell succeeded; the last reason: DivergedError: "
    ):
        run(diverges, n_trials=3)


def test_ceiling_in_seconds_is_looked_at_between_trials(monkeypatch, tmp_path):
    clock = itertools.count(step=10)
    monkeypatch.setattr("crossprop.experiments.tuning.monotonic", lambda: next(clock))
    outcome = run(seconds=35.0)
    assert len(outcome.trials) == 4  # at 10, 20 and 30 seconds there is time left, at 40 there is none
    run(seconds=5.0, journal=tmp_path / "j.log")
    # it counts anew after an interruption
    assert len(run(seconds=1e6, journal=tmp_path / "j.log").trials) == 12


@pytest.mark.parametrize("garbage", [b'{"op_code":5,"worker_id":"x', b"garbage\nmore\n"])
def test_damaged_journal_is_named(tmp_path, garbage):
    journal = tmp_path / "j.log"
    run(n_trials=3, journal=journal)
    with journal.open("ab") as file:
        file.write(garbage)
    with pytest.raises(StoreError, match=r"j\.log"):
        run(n_trials=5, journal=journal)
