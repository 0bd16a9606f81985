"""Search spaces, and tuning on a function that costs nothing: what is tried, in which order, what survives a kill."""

import itertools
import math
from time import sleep

import pytest

from crossprop.config import Range, Recipe
from crossprop.errors import CellError, DivergedError, StoreError
from crossprop.experiments.tuning import MethodSpace, tune
from crossprop.methods import Method

RATE = {"learning_rate": 1e-3}
TREES = {"algorithm": "extra_trees", "extra_trees.n_estimators": 10}
ALGORITHMS = {
    "first": {"x": Range(low=0.0, high=4.0, default=1.0)},
    "second": {"n": Range(low=1, high=64, log=True, integer=True, default=8)},
    "third": {},
}
SPACE = MethodSpace({"shift": Range(low=-1.0, high=1.0, default=0.5)}, ALGORITHMS, defaults_first=2)


@pytest.mark.parametrize(
    ("methods", "defaults"),
    [
        (["ml"], [TREES, {"algorithm": "ridge", "ridge.alpha": 1.0}]),
        (["boost", "boost_sources"], [{"algorithm": a} for a in ("extra_trees", "hist_gradient_boosting", "svr")]),
        (["dl_featextr"], [RATE | {"layer": "hidden_15"}]),
        (["dl", "freezing", "resnet", "finetune", "modfinetune", "resnet_finetune"], [RATE]),
    ],
)  # fmt: skip
def test_first_trials_are_the_defaults_and_extraction_alone_has_a_layer(tiny_params, methods, defaults):
    search = tiny_params().search
    for method in map(Method, methods):
        recipe = Recipe(epochs=1, batch_size=2, learning_rate=1e-3) if method.architecture else None
        assert MethodSpace.of(method, search, recipe).defaults() == defaults


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
    first, other = (run(seed=seed).trials["params_shift"].iloc[2:] for seed in (5, 6))
    assert first.is_unique  # every trial draws anew
    assert not first.equals(other)


def with_rung(point, report):
    report(1, valley(point))
    return valley(point)


@pytest.mark.parametrize("every", [1, 3])
def test_study_killed_within_trials_comes_to_the_same_end_and_damage_is_named(tmp_path, every):
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
    with (tmp_path / "resumed.log").open("ab") as file:
        file.write(b'{"op_code":5,"worker_id":"x')
    with pytest.raises(StoreError, match=r"resumed\.log"):
        run(with_rung, n_trials=25, journal=tmp_path / "resumed.log")


@pytest.mark.parametrize(
    "outcome", [*(kind("no") for kind in (DivergedError, CellError, ValueError, ZeroDivisionError)), math.nan]
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


def test_study_without_one_success_says_why_and_other_errors_end_it():
    for error, expected, message in (
        (DivergedError("no"), CellError, "none of the 3 trials of cell succeeded; .*: DivergedError: no"),
        (MemoryError("no room"), MemoryError, "no room"),  # no fault of the trial
    ):

        def fails(point, report, error=error):
            raise error

        with pytest.raises(expected, match=message):
            run(fails, n_trials=3)


def test_ceiling_in_seconds_is_looked_at_between_trials(monkeypatch, tmp_path):
    clock = itertools.count(step=10)
    monkeypatch.setattr("crossprop.experiments.tuning.monotonic", lambda: next(clock))
    outcome = run(seconds=35.0)
    assert len(outcome.trials) == 4  # at 10, 20 and 30 seconds there is time left, at 40 there is none
    for seconds, trials in ((1e6, 2), (0.01, 2)):  # what was spent before an interruption counts
        journal, n_trials = tmp_path / "j.log", trials if seconds > 1 else 12
        outcome = run(lambda *_: sleep(0.01) or 1.0, seconds=seconds, n_trials=n_trials, journal=journal)
        assert len(outcome.trials) == trials
