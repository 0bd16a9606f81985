"""params.yaml, the groups under conf/ and the catalogue say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from crossprop.config import load_params, parse_params
from crossprop.data.catalog import load_catalog
from crossprop.data.catalog_models import Role

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))

by_study = pytest.mark.parametrize("study", STUDIES)


def compose(*overrides: str) -> Any:
    """What `dvc exp run -S …` would write to params.yaml."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base=None):
        return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)


def test_params_file_is_what_the_defaults_compose_to():
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == compose()


def test_params_file_is_valid():
    assert load_params(ROOT / "params.yaml").study.name == "transport"


@by_study
def test_study_composes_and_validates_under_its_file_name(study):
    assert parse_params(compose(f"study={study}")).study.name == study


@pytest.mark.parametrize("group", ["search", "compute"])
def test_every_option_of_a_group_composes_and_validates(group):
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    assert options
    for option in options:
        parse_params(compose(f"{group}={option}"))


@by_study
def test_properties_of_a_study_are_in_the_catalogue_with_that_role(study):
    params, catalog = parse_params(compose(f"study={study}")).study, load_catalog()
    for names, role in ((params.targets, Role.TARGET), (params.sources, Role.SOURCE)):
        for name in names:
            assert name in catalog.properties, f"{name} is no key of the catalogue"
            assert role in catalog.properties[name].roles, f"{name} is no {role}"


@by_study
def test_edition_of_a_study_exists_for_the_sources_that_have_editions(study):
    params, catalog = parse_params(compose(f"study={study}")).study, load_catalog()
    for name in params.sources:
        editions = catalog.property(name).editions
        assert not editions or params.edition in editions


def test_default_study_needs_no_network():
    study, catalog = load_params(ROOT / "params.yaml").study, load_catalog()
    assert not catalog.pinned_files([*study.targets, *study.sources], study.edition)


def test_zoo_of_the_default_search_is_the_papers():
    from crossprop.models.regressors import algorithms

    space = load_params(ROOT / "params.yaml").search.ml.algorithms
    assert set(space) == set(algorithms())
    assert len(space) == 12


def test_default_hyperparameters_are_arguments_of_their_algorithms():
    from crossprop.models.regressors import build_regressor

    for name, space in load_params(ROOT / "params.yaml").search.ml.algorithms.items():
        build_regressor(name, {key: r.default for key, r in space.items()}, seed=1)


def test_tuned_hyperparameters_of_networks_are_fields_of_the_recipe():
    from crossprop.config import Recipe

    search = load_params(ROOT / "params.yaml").search
    assert {*search.dl, *search.finetune} <= set(Recipe.model_fields)
