"""The protocol on rows in memory."""

from __future__ import annotations

import numpy as np
import pytest
from made_rows import rows_of, write_networks

from crossprop.errors import ConfigError, DataError
from crossprop.estimator.decision import Settings
from crossprop.estimator.learn import held_out, run_protocol, target_name
from crossprop.estimator.report import transfer_verdict

QUICK = {"methods": ["base", "ml", "boost", "blend"], "trials": 1, "folds": 2, "workers": 1}


def test_a_hold_out_takes_whole_compositions():
    keys = np.array(["a", "a", "a", "b", "c", "c", "d", "e", "f", "g"])
    for seed in range(5):
        held = held_out(keys, 0.2, seed)
        assert {k for k in keys if k in set(keys[held])} == set(keys[held])
        assert not set(keys[held]) & set(keys[~held])
        assert 2 <= held.sum() <= 4
    assert not held_out(keys, 0.0, 1).any()


def test_the_hold_out_does_not_depend_on_the_order_of_rows():
    keys = np.array([f"k{i}" for i in range(40)])
    order = np.random.default_rng(1).permutation(40)
    assert set(keys[held_out(keys, 0.1, 3)]) == set(keys[order][held_out(keys[order], 0.1, 3)])


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
    root, lines = tmp_path_factory.mktemp("fit"), []
    return run_protocol(rows, settings, root, write=lines.append), lines, rows, settings, root


def test_every_method_is_cross_validated_and_the_best_wins(outcome):
    learnt = outcome[0].learnt
    validated = {r.label: r.cv_mae_mean for r in learnt.results if r.cv_mae is not None}
    assert {"base", "boost(PA)", "blend"} <= set(validated)
    assert learnt.winner.cv_mae_mean == min(validated.values())
    assert learnt.winner.cv_mae_mean < 0.9 * validated["base"]
    assert learnt.winner.n_test >= 6


def test_the_model_is_written_with_its_name_unit_and_evidence(outcome):
    from crossprop.inference.predictor import ServedModel

    model = ServedModel.load(outcome[0].learnt.model, compiled=False)
    assert (model.info["study"], model.info["target"], model.info["unit"]) == ("own", "hardness", "GPa")
    assert model.holdout_mae == pytest.approx(outcome[0].learnt.winner.test_mae_ensemble)
    assert model.n_training == outcome[0].learnt.winner.n_train


def test_a_second_start_takes_up_the_plan_and_computes_nothing(outcome, monkeypatch):
    first, _, rows, settings, root = outcome
    monkeypatch.setattr(
        "crossprop.experiments.executor.InlinePool.submit", lambda *task: pytest.fail("computed again")
    )
    lines = []
    again = run_protocol(rows, settings, root, write=lines.append)
    assert any("going on from there" in line for line in lines)
    assert again.learnt.winner == first.learnt.winner
    assert again.notes == first.notes


def test_other_rows_or_wishes_are_planned_anew(outcome):
    from crossprop.estimator.decision import decide

    _, _, rows, settings, root = outcome
    lines = []
    decide(rows.assign(split="train"), settings, root.parent / "other", lines.append)
    assert lines == []


def test_without_a_hold_out_all_rows_are_learnt_from(tmp_path):
    settings = Settings(methods=["base", "ml"], trials=1, folds=2, workers=1)
    learnt = run_protocol(rows_of(30), settings, tmp_path, write=lambda line: None).learnt
    assert (learnt.winner.n_train, learnt.winner.n_test) == (30, 0)
    assert learnt.winner.test_mae is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(methods=["boosting"]), "'boosting' is not a valid Method.*boost"),
        (Settings(methods=["base"]), "nothing learns"),
        (Settings(methods=["boost_sources"]), "boost_sources transfers, but there are no source networks"),
    ],
)
def test_impossible_methods_are_refused_before_anything_is_computed(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        run_protocol(rows_of(30), settings, tmp_path, write=lambda line: None)


def test_a_method_that_needs_an_elemnet_is_refused_where_there_is_none(tmp_path):
    folder = write_networks(tmp_path / "n", ["LiF"])
    settings = Settings(methods=["finetune"], sources=folder)
    with pytest.raises(ConfigError, match="finetune transfers from an ElemNet"):
        run_protocol(rows_of(30), settings, tmp_path / "fit", write=lambda line: None)


def test_networks_that_know_a_row_are_never_used(tmp_path):
    rows = rows_of(30)
    folder = write_networks(tmp_path / "n", [rows["formula"][3]])
    with pytest.raises(ConfigError, match="trained on 1 of the 30 rows' compositions"):
        run_protocol(rows, Settings(sources=folder, workers=1), tmp_path / "fit", write=lambda line: None)


def test_too_few_minutes_for_networks_are_said_and_scratch_goes_on(tmp_path):
    from crossprop.estimator.decision import decide

    settings = Settings(sources="auto", minutes=0.1, cache=tmp_path / "cache")
    decided = decide(rows_of(30).assign(split="train"), settings, tmp_path, lambda line: None)
    assert decided.networks is None
    assert decided.notes[0].startswith("no transfer: 0.1 minutes are too few")


@pytest.mark.parametrize("rows", [rows_of(9), rows_of(30).assign(value=1.0)], ids=["few", "constant"])
def test_what_cannot_be_learnt_from_is_refused(tmp_path, rows):
    with pytest.raises(DataError):
        run_protocol(rows, Settings(workers=1), tmp_path, write=lambda line: None)


def test_transfer_is_judged_on_the_same_folds(outcome):
    from dataclasses import replace

    from crossprop.methods import Method

    scratch = next(r for r in outcome[0].learnt.results if r.label == "boost(PA)")
    other = replace(
        scratch,
        method=Method.BOOST_SOURCES,
        source="all_sources",
        cv_mae=tuple(0.9 * e for e in scratch.cv_mae),
    )
    verdict = transfer_verdict([scratch, other])
    assert verdict["helped"] is True
    assert verdict["change"] == pytest.approx(-0.1)
    assert (verdict["folds_won"], verdict["folds"]) == (2, 2)
    assert transfer_verdict([scratch]) is None
