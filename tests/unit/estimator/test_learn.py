"""From minutes to a plan, and a fit of rows in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_rows import rows_of, silent, write_networks

from crossprop.errors import ConfigError, ModelFormatError, StoreError
from crossprop.estimator.budget import FITS
from crossprop.estimator.learn import Plan, Settings, _copy_networks, choose_plan, plan_fit, run_fit, with_auxiliary
from crossprop.estimator.pretrained import SourceNetworks
from crossprop.estimator.report import _method_rows, transfer_verdict
from crossprop.io import write_digests
from crossprop.methods import Method, Side
from crossprop.paths import StudyPaths


@pytest.mark.parametrize("change", ["settings", "values", "groups"])
def test_a_plan_is_taken_up_for_the_same_rows_and_settings_only(tmp_path, change):
    rows, settings = rows_of(30).assign(split="train"), Settings(methods=["ml"], trials=1)
    plan_fit(rows, settings, tmp_path, silent)
    said = []
    plan_fit(rows, settings, tmp_path, said.append)
    assert said
    said.clear()
    if change == "settings":
        settings = settings.model_copy(update={"folds": 3})
    elif change == "values":
        rows = rows.assign(value=rows["value"] + 1.0)
    else:
        rows = rows.assign(group=[f"g{i // 2}" for i in range(30)])
    plan_fit(rows, settings, tmp_path, said.append)
    assert not said


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_fit_in_the_same_folder_is_refused_before_it_writes(tmp_path):
    rows, settings = rows_of(30), Settings(methods=["plain_median"], folds=2, workers=1)
    refused = []

    def again(outcome):
        before = contents(tmp_path)
        with pytest.raises(StoreError, match=r"Another process works on this fit already .*fit\.lock"):
            run_fit(rows_of(40), settings, tmp_path, write=silent)
        refused.append(contents(tmp_path) == before)

    run_fit(rows, settings, tmp_path, write=silent, on_plain=again, on_end=again)
    assert refused == [True, True]
    run_fit(rows, settings, tmp_path, write=silent)  # the folder was given back


def test_networks_are_copied_whole_and_again_where_a_file_is_missing(tmp_path):
    given, paths = tmp_path / "networks", StudyPaths("own", tmp_path)
    for name in ("transport_p", "band_gap"):
        (given / name).mkdir(parents=True)
        for file in ("provenance.json", "network.keras"):
            (given / name / file).write_text(f'"{name}"')
        write_digests(given / name)
    networks = SourceNetworks(given, "x", ("band_gap",), ("band_gap",), 0, np.array([]), "transport_p")

    copied = {"band_gap": "band_gap", "transport_p": "all_sources"}
    for _ in range(2):
        _copy_networks(networks, paths)
        for name, copy in copied.items():
            assert contents(paths.source_model(copy)) == contents(given / name)
        (paths.source_model("all_sources") / "network.keras").unlink()
    (given / "band_gap" / "network.keras").unlink()
    with pytest.raises(ModelFormatError, match=r"networks/band_gap/network\.keras cannot be read"):
        _copy_networks(networks, paths)


def test_settings_out_of_their_limits_are_refused():
    for wrong, message in (
        ({"methods": ["boosting"]}, "methods.0: .*'boost'.*received 'boosting'"),
        ({"methods": ["base"]}, "nothing learns"),
        ({"methods": "ml"}, "methods: .*received 'ml'"),
        ({"minutes": float("nan")}, "minutes: .*finite"),
        ({"trials": 0.5}, "trials: .*received 0.5"),
        ({"holdout": None}, "holdout: .*received None"),
    ):
        with pytest.raises(ConfigError, match=message):
            Settings(**wrong)


def test_a_method_that_cannot_transfer_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(ConfigError, match="boost_sources transfers, but there are no source networks"):
        run_fit(rows_of(30), Settings(methods=["boost_sources"]), tmp_path, write=silent)
    settings = Settings(methods=["finetune"], sources=write_networks(tmp_path / "n", ["LiF"]))
    with pytest.raises(ConfigError, match="finetune transfers from an ElemNet"):
        run_fit(rows_of(30), settings, tmp_path / "fit", write=silent)


def test_rows_that_networks_know_are_never_validated_on_and_many_of_them_or_a_held_out_one_refused(tmp_path):
    rows = rows_of(30).assign(split="train")
    networks = SourceNetworks.load(write_networks(tmp_path / "few", rows["formula"][:6].tolist()))
    split = with_auxiliary(rows, networks)["split"]
    assert split.tolist() == ["auxiliary"] * 6 + ["train"] * 24
    plan = plan_fit(rows, Settings(sources=networks.folder, minutes=1), tmp_path / "plan", silent)
    assert plan.notes[1].startswith("6 of 30 rows have a composition that the source networks have seen")
    grouped = rows.assign(group=[f"g{i}" for i in range(30)])
    for frame in (rows.assign(split=["test"] + ["train"] * 29), grouped, rows[:20]):
        with pytest.raises(ConfigError, match=f"trained on 6 of the {len(frame)} rows' compositions"):
            with_auxiliary(frame, networks)


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


def test_transfer_is_judged_on_the_same_folds(tmp_path):
    settings = Settings(methods=["base", "boost"], trials=1, folds=2, workers=1)
    results = {r.label: r for r in run_fit(rows_of(60), settings, tmp_path, write=silent).results}
    base, scratch = results["base"], results["boost(EF+PA)"]
    better = tuple(0.9 * error for error in scratch.cv_mae)
    other = replace(scratch, method=Method.BOOST_SOURCES, source="x", cv_mae=better)
    verdict = transfer_verdict([scratch, other])
    assert verdict["helped"] is True
    assert verdict["change"] == pytest.approx(-0.1)
    assert (verdict["folds_won"], verdict["folds"]) == (2, 2)
    exact = replace(scratch, cv_mae=(0.0, 0.0))
    verdict = transfer_verdict([exact, other])
    assert (verdict["helped"], verdict["change"]) == (False, None)
    assert "0 (better in 0 of 2 folds)" in verdict["text"]
    rows = _method_rows([scratch, exact], pd.DataFrame(columns=["split", "cell"]), np.array([]))
    assert [row["cv_mae"] for row in rows] == [0.0, scratch.cv_mae_mean]
    assert transfer_verdict([scratch]) is None
    assert transfer_verdict([other])["helped"] is None
    assert transfer_verdict([base, scratch, replace(other, cv_mae=None)])["helped"] is None


def plan(n_rows: int, minutes: float | None, networks: SourceNetworks | None = None, **settings) -> Plan:
    return choose_plan(n_rows, n_rows, Settings(minutes=minutes, workers=1, **settings), networks)


def test_more_minutes_never_plan_less_and_more_rows_take_longer():
    efforts = [list(FITS).index(plan(300, m).params.study.tier) for m in (0.05, 0.3, 1, 3, 10, 60)]
    assert efforts == sorted(efforts)
    assert (efforts[0], efforts[-1]) == (0, len(FITS) - 1)
    few, many = (plan(n, None).seconds for n in (300, 20_000))
    assert many > 3 * few
    assert all(plan(500, minutes).seconds <= 60 * minutes for minutes in (0.5, 2, 10))


@pytest.mark.parametrize(("minutes", "steps"), [(0.1, 300), (5, 600), (None, 600)])
def test_longer_fits_train_networks_of_both_sides_for_more_steps(minutes, steps):
    study = plan(450, minutes).params.study
    assert (study.scratch.min_steps, study.transfer.min_steps) == (steps, steps)


def test_what_was_left_out_is_said_and_where_even_the_least_takes_too_long():
    said = " ".join(plan(300, 0.3).notes)
    assert "resnet" in said
    assert "3 folds instead of 10" in said
    assert "of a network instead of 16 and 8" in said
    assert plan(300, None).notes == ()
    made = plan(20_000, 0.01)
    assert made.params.study.tier == "trial"
    assert made.notes[-1].startswith("even the least effort takes about")


@pytest.mark.parametrize("elemnets", [None, (), ("band_gap",)])
def test_transfer_methods_are_those_that_the_networks_allow(elemnets):
    networks = None
    if elemnets is not None:
        networks = SourceNetworks(Path(), "quick", ("band_gap",), elemnets, 0, np.array([], np.uint64))
    methods = plan(300, None, networks).params.study.methods
    assert any(method.side is Side.TRANSFER for method in methods) is (networks is not None)
    assert (Method.RESNET_FINETUNE in methods) is (networks is not None)
    assert (Method.FINETUNE in methods) is bool(elemnets)


@pytest.mark.parametrize(("rows", "minutes", "planned"), [(300, 1, True), (20_000, 1, False), (100_000, None, False)])
def test_plain_models_are_planned_where_time_and_memory_allow(rows, minutes, planned):
    assert (Method.PLAIN_MEDIAN in plan(rows, minutes).params.study.methods) is planned
