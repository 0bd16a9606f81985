"""A fit of rows in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from made_rows import rows_of, silent, write_networks

from crossprop.errors import ConfigError, DataError
from crossprop.estimator.learn import Settings, plan_fit, run_fit, target_name
from crossprop.estimator.report import transfer_verdict
from crossprop.inference.predictor import ServedModel
from crossprop.methods import Method

QUICK = {"methods": ["base", "ml", "boost", "blend"], "trials": 1, "folds": 2, "workers": 1}


@pytest.mark.parametrize(
    ("text", "name"),
    [("Yield strength (MPa)", "yield_strength_mpa"), ("κ", "value"), ("all_sources", "own_all_sources")],
)
def test_a_column_becomes_the_name_of_a_property(text, name):
    assert target_name(text) == name


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    rows = rows_of(60)
    settings = Settings(target="Hardness", unit="GPa", holdout=0.1, **QUICK)
    root = tmp_path_factory.mktemp("fit")
    return run_fit(rows, settings, root, write=silent), rows, settings, root


def test_every_method_is_cross_validated_and_the_best_is_saved_with_name_unit_and_evidence(outcome):
    done = outcome[0]
    validated = {r.label: r.cv_mae_mean for r in done.results if r.cv_mae is not None}
    assert {"base", "boost(EF+PA)", "blend"} <= set(validated)
    assert done.winner.cv_mae_mean == min(validated.values())
    assert done.winner.cv_mae_mean < 0.9 * validated["base"]
    assert (done.winner.n_train, done.winner.n_test) == (54, 6)
    model = ServedModel.load(done.model)
    assert (model.info["study"], model.info["target"], model.info["unit"]) == ("own", "hardness", "GPa")
    assert model.holdout_mae == pytest.approx(done.winner.test_mae_ensemble)
    assert model.n_training == done.winner.n_train


def test_a_second_start_takes_up_the_plan_and_computes_nothing(outcome, monkeypatch):
    first, rows, settings, root = outcome
    monkeypatch.setattr(
        "crossprop.experiments.executor.InlinePool.submit", lambda *task: pytest.fail("computed again")
    )
    lines = []
    again = run_fit(rows, settings, root, write=lines.append)
    assert any("going on from there" in line for line in lines)
    assert again.winner == first.winner
    assert again.plan == first.plan


@pytest.mark.parametrize("change", ["settings", "values", "groups"])
def test_a_plan_is_taken_up_for_the_same_rows_and_settings_only(tmp_path, change):
    rows, settings = rows_of(30).assign(split="train"), Settings(methods=["ml"], trials=1)
    plan_fit(rows, settings, tmp_path, silent)
    said = []
    plan_fit(rows, settings, tmp_path, said.append)
    assert said
    said.clear()
    if change == "settings":
        settings = replace(settings, folds=3)
    elif change == "values":
        rows = rows.assign(value=rows["value"] + 1.0)
    else:
        rows = rows.assign(group=[f"g{i // 2}" for i in range(30)])
    plan_fit(rows, settings, tmp_path, said.append)
    assert not said


def test_without_a_hold_out_all_rows_are_learnt_from(tmp_path):
    settings = Settings(methods=["base", "ml"], trials=1, folds=2, workers=1)
    winner = run_fit(rows_of(30), settings, tmp_path, write=silent).winner
    assert (winner.n_train, winner.n_test, winner.test_mae) == (30, 0, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"methods": ["boosting"]}, "'boosting' is not a valid Method.*boost"),
        ({"methods": ["base"]}, "nothing learns"),
        ({"methods": "ml"}, "methods='ml'"),
        ({"minutes": 0}, "minutes=0"),
        ({"minutes": float("nan")}, "minutes=nan"),
        ({"folds": 1}, "folds=1"),
        ({"trials": 0.5}, "trials=0.5"),
        ({"holdout": 0.6}, "holdout=0.6"),
        ({"holdout": None}, "holdout=None"),
        ({"workers": -1}, "workers=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
    ids=str,
)
def test_settings_out_of_their_limits_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**wrong)


def test_a_method_that_cannot_transfer_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(ConfigError, match="boost_sources transfers, but there are no source networks"):
        run_fit(rows_of(30), Settings(methods=["boost_sources"]), tmp_path, write=silent)
    settings = Settings(methods=["finetune"], sources=write_networks(tmp_path / "n", ["LiF"]))
    with pytest.raises(ConfigError, match="finetune transfers from an ElemNet"):
        run_fit(rows_of(30), settings, tmp_path / "fit", write=silent)


def test_networks_that_know_a_row_are_never_used(tmp_path):
    rows = rows_of(30)
    folder = write_networks(tmp_path / "n", [rows["formula"][3]])
    with pytest.raises(ConfigError, match="trained on 1 of the 30 rows' compositions"):
        run_fit(rows, Settings(sources=folder, workers=1), tmp_path / "fit", write=silent)


def test_with_too_few_minutes_cached_networks_are_used_or_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSPROP_CACHE", str(tmp_path / "cache"))
    rows, settings = rows_of(30).assign(split="train"), Settings(sources="auto", minutes=0.1)
    plan = plan_fit(rows, settings, tmp_path / "first", silent)
    assert plan.networks is None
    assert plan.notes[0].startswith("no transfer: 0.1 minutes are too few")
    cached = write_networks(tmp_path / "cache" / "networks" / "n", ["LiF"])
    plan = plan_fit(rows, settings, tmp_path / "second", silent)
    assert plan.networks.folder == cached
    assert plan.notes[0].startswith("transfer from band_gap")
    assert Method.BOOST_SOURCES in plan.params.study.methods
    again = plan_fit(rows, settings, tmp_path / "second", silent)
    assert again.networks.folder == cached.resolve()
    assert again.params == plan.params


@pytest.mark.parametrize("rows", [rows_of(9), rows_of(30).assign(value=1.0)], ids=["few", "constant"])
def test_what_cannot_be_learnt_from_is_refused(tmp_path, rows):
    with pytest.raises(DataError):
        run_fit(rows, Settings(workers=1), tmp_path, write=silent)


def test_transfer_is_judged_on_the_same_folds(outcome):
    scratch = next(r for r in outcome[0].results if r.label == "boost(EF+PA)")
    other = replace(
        scratch, method=Method.BOOST_SOURCES, source="x", cv_mae=tuple(0.9 * e for e in scratch.cv_mae)
    )
    verdict = transfer_verdict([scratch, other])
    assert verdict["helped"] is True
    assert verdict["change"] == pytest.approx(-0.1)
    assert (verdict["folds_won"], verdict["folds"]) == (2, 2)
    assert transfer_verdict([scratch]) is None
    assert transfer_verdict([other])["helped"] is None
    base = next(r for r in outcome[0].results if r.label == "base")
    assert transfer_verdict([base, scratch, replace(other, cv_mae=None)])["helped"] is None
