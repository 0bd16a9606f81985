"""params.yaml, the groups under conf/ and the catalogue say the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from crossprop.config import load_params, parse_params
from crossprop.data.catalog import Role, load_catalog
from crossprop.methods import EXTENSION_REGRESSORS, REGRESSORS

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))
TIERS = sorted(path.stem for path in (CONF / "tier").glob("*.yaml"))

by_study = pytest.mark.parametrize("study", STUDIES)
by_tier = pytest.mark.parametrize("tier", sorted({*TIERS} - {"none"}))


def test_params_file_is_what_the_defaults_compose_to(compose):
    written, default = yaml.safe_load((ROOT / "params.yaml").read_text()), compose()
    changed = subprocess.run(
        ["git", "diff", "--quiet", "HEAD", "--", "params.yaml"], cwd=ROOT, capture_output=True, check=False
    )
    other = any(written["study"][key] != default["study"][key] for key in ("name", "tier"))
    if other and changed.returncode == 1:
        pytest.skip("another study stands in params.yaml: `dvc exp run -S study=…` wrote it there")
    assert written == default


def test_params_file_is_valid():
    assert load_params(ROOT / "params.yaml").study.name


@by_study
def test_study_composes_and_validates_under_its_file_name(study, compose):
    assert parse_params(compose(f"study={study}")).study.name == study


@by_study
def test_without_a_tier_a_study_is_what_its_file_states(study, compose):
    stated = yaml.safe_load((CONF / "study" / f"{study}.yaml").read_text())
    composed = compose(f"study={study}")["study"]
    assert {key: composed[key] for key in stated} == stated
    assert composed["tier"] == ""


@by_study
def test_what_a_study_does_not_state_is_the_default_of_the_reader(study, compose):
    stated = yaml.safe_load((CONF / "study" / f"{study}.yaml").read_text())
    search, composed = compose(f"study={study}")["search"], compose(f"study={study}")
    assert parse_params({"study": stated, "search": search}).study == parse_params(composed).study


@by_tier
def test_tier_of_the_large_study_composes_and_says_its_name(tier, compose):
    assert parse_params(compose("study=jarvis", f"tier={tier}")).study.tier == tier


def test_quick_tier_costs_less_than_the_full_one_in_every_respect(compose):
    quick, full = (parse_params(compose("study=jarvis", f"tier={tier}")).study for tier in ("quick", "full"))
    assert quick.targets == full.targets
    assert set(quick.elemnet_sources) < set(full.elemnet_sources)
    assert set(full.elemnet_sources) == set(full.sources) == set(quick.sources)
    assert all(quick.folds_of(target) <= full.folds_of(target) for target in quick.targets)
    assert {full.folds_of(target) for target in ("expt_deltae", "expt_bandgap")} == {100}  # the paper's
    assert quick.budget.ml_trials < full.budget.ml_trials
    assert quick.budget.dl_trials < full.budget.dl_trials
    assert quick.budget.seconds < full.budget.seconds
    assert quick.fidelity is not None
    assert full.fidelity is None
    assert quick.learning_curve is not None
    assert full.learning_curve is not None
    assert set(quick.learning_curve.targets) <= set(full.learning_curve.targets)


def test_large_targets_of_the_quick_tier_have_three_folds(compose):
    """Those with more than 24,000 rows (`data_size` of the paper) cost most; the small ones keep ten."""
    study, catalog = parse_params(compose("study=jarvis", "tier=quick")).study, load_catalog()
    sizes = {target: catalog.property(target).paper.data_size for target in study.targets}
    assert {t for t, rows in sizes.items() if rows > 24_000} == {
        t for t in study.targets if study.folds_of(t) == 3
    }
    assert {t for t, rows in sizes.items() if rows < 1_200} == {
        t for t in study.targets if study.folds_of(t) == 10
    }


@by_study
def test_papers_recipe_can_be_laid_over_any_study(study, compose):
    """Gupta et al. 2021, Methods: batch 32, Adam at 1e-4, early stopping with a patience of 200 epochs."""
    params = parse_params(compose(f"study={study}", "recipe=paper"))
    for recipe in (params.study.pretrain, params.study.scratch, params.study.transfer):
        assert (recipe.batch_size, recipe.learning_rate, recipe.patience) == (32, 1e-4, 200)
        assert (recipe.schedule, recipe.weight_decay, recipe.restore_best) == ("constant", 0.0, True)
    for space in (params.search.dl, params.search.finetune):
        assert (space["learning_rate"].low, space["learning_rate"].high) == (1e-5, 1e-3)


@by_study
def test_every_target_of_a_study_belongs_to_a_shard(study, compose):
    """`transfer` runs once for each shard: a study without any would compute nothing."""
    params = parse_params(compose(f"study={study}")).study
    assert sorted(t for part in params.shards.values() for t in part) == sorted(params.targets)


@pytest.mark.parametrize("group", ["search", "compute", "recipe"])
def test_every_option_of_a_group_composes_and_validates(group, compose):
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    assert options
    for option in options:
        parse_params(compose(f"{group}={option}"))


@by_study
def test_properties_of_a_study_are_in_the_catalogue_with_that_role(study, compose):
    params, catalog = parse_params(compose(f"study={study}")).study, load_catalog()
    for names, role in ((params.targets, Role.TARGET), (params.sources, Role.SOURCE)):
        for name in names:
            assert name in catalog.properties, f"{name} is no key of the catalogue"
            assert role in catalog.properties[name].roles, f"{name} is no {role}"


@by_study
def test_edition_of_a_study_exists_for_the_sources_that_have_editions(study, compose):
    params, catalog = parse_params(compose(f"study={study}")).study, load_catalog()
    for name in params.sources:
        editions = catalog.property(name).editions
        assert not editions or params.edition in editions


def test_default_study_needs_no_network(compose):
    study, catalog = parse_params(compose()).study, load_catalog()
    assert not catalog.pinned_files([*study.targets, *study.sources], study.edition)


def test_zoo_of_the_default_search_is_the_papers(compose):
    space = parse_params(compose()).search.ml.algorithms
    assert set(space) == set(REGRESSORS)
    assert len(space) == 12


def test_every_regressor_of_the_vocabulary_can_be_built():
    from crossprop.models.regressors import algorithms

    assert set(algorithms()) == {*REGRESSORS, *EXTENSION_REGRESSORS}


def test_default_hyperparameters_are_arguments_of_their_algorithms(compose):
    from crossprop.models.regressors import build_regressor

    search = parse_params(compose()).search
    for zoo in (search.ml, search.extension):
        for name, space in zoo.algorithms.items():
            build_regressor(name, {key: r.default for key, r in space.items()}, seed=1)


def test_tuned_hyperparameters_of_networks_are_fields_of_the_recipe(compose):
    from crossprop.config import Recipe

    search = parse_params(compose()).search
    assert {*search.dl, *search.finetune} <= set(Recipe.model_fields)
