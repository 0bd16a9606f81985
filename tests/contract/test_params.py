"""params.yaml, the groups under conf/ and the catalogue say the same."""

import subprocess
from pathlib import Path

import pytest
import yaml

from crossprop.config import parse_params
from crossprop.data.catalog import Role, load_catalog

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))

by_study = pytest.mark.parametrize("study", STUDIES)


def test_params_file_is_what_the_defaults_compose_to(compose):
    written, default = yaml.safe_load((ROOT / "params.yaml").read_text()), compose()
    command = ["git", "diff", "--quiet", "HEAD", "--", "params.yaml"]
    changed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    other = any(written["study"][key] != default["study"][key] for key in ("name", "tier"))
    if other and changed.returncode == 1:
        pytest.skip("another study stands in params.yaml: `dvc exp run -S study=…` wrote it there")
    assert written == default


@by_study
def test_papers_recipe_can_be_laid_over_any_study(study, compose):
    """Gupta et al. 2021, Methods: batch 32, Adam at 1e-4, early stopping with a patience of 200 epochs."""
    params = parse_params(compose(f"study={study}", "recipe=paper"))
    for recipe in (params.study.pretrain, params.study.scratch, params.study.transfer):
        assert (recipe.batch_size, recipe.learning_rate, recipe.patience) == (32, 1e-4, 200)
        assert (recipe.schedule, recipe.weight_decay, recipe.restore_best) == ("constant", 0.0, True)
    for space in (params.search.dl, params.search.finetune):
        assert (space["learning_rate"].low, space["learning_rate"].high) == (1e-5, 1e-3)


@pytest.mark.parametrize("group", ["search", "compute", "recipe"])
def test_every_option_of_a_group_composes_and_validates(group, compose):
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    assert options
    for option in options:
        parse_params(compose(f"{group}={option}"))


def test_default_study_needs_no_network(compose):
    study, catalog = parse_params(compose()).study, load_catalog()
    assert not catalog.pinned_files([*study.targets, *study.sources], study.edition)


@by_study
def test_a_study_is_what_its_file_states_and_elsewhere_the_readers_default(study, compose):
    stated = yaml.safe_load((CONF / "study" / f"{study}.yaml").read_text())
    composed = compose(f"study={study}")
    assert {key: composed["study"][key] for key in stated} == stated
    params = parse_params(composed).study
    assert (params.name, params.tier) == (study, "")
    assert parse_params({"study": stated, "search": composed["search"]}).study == params
    assert sorted(t for part in params.shards.values() for t in part) == sorted(params.targets)


@by_study
def test_properties_of_a_study_are_in_the_catalogue_with_that_role_and_edition(study, compose):
    params, catalog = parse_params(compose(f"study={study}")).study, load_catalog()
    for names, role in ((params.targets, Role.TARGET), (params.sources, Role.SOURCE)):
        for name in names:
            assert role in catalog.property(name).roles, f"{name} is no {role}"
    for name in params.sources:
        assert params.edition in (catalog.property(name).editions or [params.edition])


def test_quick_tier_costs_less_than_the_full_one_in_every_respect(compose):
    quick, full = (parse_params(compose("study=jarvis", f"tier={tier}")).study for tier in ("quick", "full"))
    assert (quick.tier, full.tier) == ("quick", "full")
    assert quick.targets == full.targets
    assert set(quick.elemnet_sources) == set(full.elemnet_sources) == set(full.sources) == set(quick.sources)
    assert all(quick.folds_of(target) <= full.folds_of(target) for target in quick.targets)
    assert {full.folds_of(target) for target in ("expt_deltae", "expt_bandgap")} == {100}  # the paper's
    for limit in ("ml_trials", "dl_trials", "seconds"):
        assert getattr(quick.budget, limit) < getattr(full.budget, limit)
    assert quick.fidelity
    assert full.fidelity is None
    assert set(quick.learning_curve.targets) <= set(full.learning_curve.targets)
    catalog = load_catalog()
    rows = {name: catalog.property(name).paper.data_size for name in quick.targets}
    assert {name for name in rows if rows[name] > 24_000} == {n for n in rows if quick.folds_of(n) == 3}
    assert {name for name in rows if rows[name] < 1_200} == {n for n in rows if quick.folds_of(n) == 10}
