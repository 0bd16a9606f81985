"""Studies for user data: valid for every size, cheaper for less, and never written over another one."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from crossprop.config import parse_params
from crossprop.data.catalog import load_catalog
from crossprop.data.user_rows import read_user_table
from crossprop.errors import ConfigError, UnknownPropertyError, UserFileError
from crossprop.estimator import study_file
from crossprop.estimator.add import add_data, held_out_rows
from crossprop.estimator.budget import PUBLIC, STUDIES, estimate_study, target_seconds
from crossprop.methods import Side
from crossprop.training.trainer import suited

ROOT = Path(__file__).resolve().parents[3]
SIZES = (15, 99, 100, 1_201, 5_000, 100_000)
SOURCE_ROWS = dict.fromkeys(PUBLIC, 100_000) | {"band_gap": 320_000, "seebeck_p": 9_000}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans studies in a project with a property `strength` of 60 rows, and a folder for studies."""
    monkeypatch.delenv("CROSSPROP_CATALOG", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.csv"
    path.write_text("formula,strength\n" + "".join(f"Fe{i}O,{i}.25\n" for i in range(1, 61)))
    table = read_user_table(path, target="strength")
    texts = {"unit": "MPa", "description": "Strength, of steels"}
    add_data(path, table, held_out_rows(path, table), "strength", texts)
    (tmp_path / "conf" / "study").mkdir(parents=True)

    def plan(name="mine", targets=("strength",), sources=None, **options):
        raw = tmp_path / "data" / "raw"
        return study_file.plan_study(load_catalog(), name, targets, sources, raw, **options)

    return plan


def params_of(*arguments, **options):
    return parse_params(study_file.study_values("mine", *arguments, **options))


@pytest.mark.parametrize("rows", SIZES)
def test_every_tier_is_valid_for_every_size_and_a_later_one_costs_more(rows):
    spent = []
    for tier in STUDIES:
        params = params_of(["a", "b"], {"a": rows, "b": 3_000}, tier=tier)
        assert 2 <= params.study.folds_of("a") <= min(10, rows)
        assert params.study.shards == {"all": ("a", "b")}
        for side in (Side.SCRATCH, Side.TRANSFER):
            assert any(method.side is side for method in params.study.methods)
        spent.append(estimate_study(params, {"a": rows, "b": 3_000}, SOURCE_ROWS).total)
    assert spent == sorted(spent)


@pytest.mark.parametrize("tier", STUDIES)
def test_networks_of_small_sources_have_hundreds_of_steps_and_those_of_large_ones_their_epochs(tier):
    study = params_of(["a"], 500, ["seebeck_p"], tier=tier).study
    for recipe in filter(None, (study.pretrain, study.joint_pretrain)):
        small = suited(recipe, 540)
        assert (small.batch_size, small.epochs * (540 // small.batch_size) >= 300) == (32, True)
        assert suited(recipe, 29_851) == recipe


@pytest.mark.parametrize(("tier", "steps"), [("trial", 300), ("quick", 300), ("standard", 300), ("full", 500)])
def test_both_sides_have_networks_with_the_same_rate_and_least_steps(tier, steps):
    study = params_of(["a"], 500, tier=tier).study
    for recipe in (study.scratch, study.transfer):
        assert (recipe.learning_rate, recipe.min_steps) == (0.001, steps)


def test_more_rows_have_fewer_folds_and_few_rows_fewer_trials():
    assert [params_of(["a"], rows).study.folds for rows in (500, 3_000, 20_000, 100_000)] == [10, 5, 4, 3]
    few, many = (params_of(["a"], n, tier="full").study.budget for n in (40, 400))
    assert few.ml_trials < many.ml_trials
    study = params_of(["a", "b", "c"], {"a": 300, "b": 400, "c": 9_000}).study
    assert [study.folds_of(t) for t in "abc"] == [10, 10, 4]
    names = tuple(f"t{i}" for i in range(50))
    shards = params_of(names, 300).study.shards
    assert (sum(shards.values(), ()), len(shards)) == (names, 7)


# The report of `jarvis` is of fewer steps than its configuration has now.
@pytest.mark.parametrize(("study", "overrides"), [("transport", ("study=transport",))])
def test_the_estimate_is_near_what_measured_studies_cost(study, overrides, compose):
    """`reports/` holds what every cell of these studies has cost, which depends on how busy the machine was."""
    params = parse_params(compose(*overrides)).study
    folder = ROOT / "reports" / study
    with (folder / "targets.csv").open() as file:
        rows = {r["target"]: int(r["n_train"]) for r in csv.DictReader(file)}
    with (folder / "runs.csv").open() as file:
        measured = sum(float(r["tune_seconds"]) + float(r["fit_seconds"]) for r in csv.DictReader(file))
    estimated = sum(target_seconds(params, target, n) for target, n in rows.items())
    assert 1 / 2 < estimated / measured < 2


def test_search_spaces_are_those_of_the_configuration(compose):
    assert study_file.default_search() == compose()["search"]


def test_a_written_study_holds_what_was_planned_and_is_not_written_over(planned):
    study = planned(tier="trial")
    path = study_file.write_study(study)
    assert path == Path("conf/study/mine.yaml")
    stated = yaml.safe_load(path.read_text())
    assert stated == study.values["study"]
    assert parse_params({"study": stated, "search": study_file.default_search()}) == study.params
    assert (study.rows, stated["title"]) == ({"strength": 45}, "Strength")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="--replace"):
        study_file.write_study(planned(tier="quick"))
    assert path.read_bytes() == before
    study_file.write_study(planned(tier="quick"), replace=True)
    assert path.read_bytes() != before
    assert list(path.parent.iterdir()) == [path]
    assert study_file.studies_naming("strength") == study_file.studies_naming("formation_energy") == [path]
    assert study_file.studies_naming("band_gap") == []
    (path.parent / "another.yaml").write_text("targets:\nsources: band_gap\n")
    assert study_file.studies_naming("band_gap") == [path.parent / "another.yaml"]


def test_minutes_choose_the_largest_tier_that_fits(planned):
    totals = {tier: planned(tier=tier).estimate.total / 60 for tier in STUDIES}
    for tier, minutes in totals.items():
        assert planned(minutes=minutes + 0.01).tier == tier
    with pytest.raises(ConfigError, match=r"trial, takes about [\d.]+ minutes\. Give --minutes") as caught:
        planned(minutes=totals["trial"] - 0.001)
    advised = re.search(r"--minutes (\d+)", str(caught.value))[1]
    assert planned(minutes=float(advised)).tier == "trial"


def test_impossible_studies_are_refused(planned):
    for options, error, part in (
        ({"targets": ("strenght",)}, UnknownPropertyError, "Did you mean strength"),
        ({"targets": ("formation_energy",)}, ConfigError, "is no target"),
        ({"sources": ("klu",)}, ConfigError, "is no source"),
        ({"sources": ("strength",)}, ConfigError, "both target and source"),
        ({"sources": ()}, ConfigError, "crossprop fit"),
        ({"targets": ()}, ConfigError, "needs a target"),
        ({"targets": ("strength", "strength")}, ConfigError, "more than once"),
        ({"name": "My study"}, ConfigError, "no name of a study"),
        ({"tier": "huge"}, ConfigError, "trial, quick, standard, full"),
        ({"tier": "quick", "minutes": 5.0}, ConfigError, "not both"),
    ):
        with pytest.raises(error, match=part):
            planned(**options)


def test_what_a_study_computes_is_said_beforehand(planned):
    text = study_file.explain(planned())
    assert "strength: 45 rows to learn from, 10 folds" in text
    assert "MB first" in text
    assert "mostly be noise" in text
    assert "download" not in study_file.explain(planned(tier="trial"))  # its source is installed
    assert planned(targets=("slme", "seebeck_n")).rows["seebeck_n"] == 500
    Path("own/strength/train.csv").unlink()
    with pytest.raises(UserFileError, match="dvc checkout"):
        planned()
