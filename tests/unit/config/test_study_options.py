"""Shards, joint networks, tiers of effort: what a study may state beside the paper's grid, and what it may not."""

from __future__ import annotations

import pytest

from crossprop.config import Recipe, parse_params
from crossprop.errors import ConfigError
from crossprop.methods import Family, Method, Representation, Side

RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}
THREE = {"targets": ["slme", "spillage", "encut"]}
JOINT = {"joint": {"all_sources": ["formation_energy"]}, "joint_pretrain": RECIPE}
FIDELITY = {"rows": 50, "steps": 10, "after_screening": 1, "after_first_fold": 1, "margin": 0.1}


def refused(values, **changes):
    """The message about a study with these changes."""
    values["study"] |= changes
    with pytest.raises(ConfigError) as caught:
        parse_params(values)
    return str(caught.value)


def test_study_without_shards_has_none(tiny_params):
    study = tiny_params().study
    assert study.shards == {}
    assert study.shard_of("slme") is None
    assert study.tier == ""


def test_every_target_belongs_to_the_shard_that_names_it(tiny_params):
    study = tiny_params(**THREE, shards={"a": ["encut", "slme"], "b": ["spillage"]}).study
    assert [study.shard_of(target) for target in study.targets] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("shards", "odd"),
    [
        ({"a": ["slme"], "b": ["spillage"]}, "encut"),
        ({"a": ["slme", "encut"], "b": ["spillage", "encut"]}, "encut"),
        ({"a": ["slme", "encut", "encut"], "b": ["spillage"]}, "encut"),
        ({"a": ["slme", "encut"], "b": ["spillage", "klu"]}, "klu"),
        ({"a": ["slme"]}, "encut, spillage"),
    ],
    ids=["missing", "in two", "twice in one", "of no study", "several"],
)
def test_shards_that_are_no_partition_of_the_targets_are_refused(tiny_values, shards, odd):
    message = refused(tiny_values, **THREE, shards=shards)
    assert f"shards must hold every target exactly once; look at {odd} " in f"{message} "


def test_empty_shard_and_shard_with_a_path_for_a_name_are_refused(tiny_values):
    assert "study.shards.a" in refused(tiny_values, shards={"a": []})
    assert "study.shards" in refused(tiny_values, shards={"../a": ["slme"]})


def test_every_source_has_an_elemnet_unless_some_are_named(tiny_params):
    sources = ["formation_energy", "band_gap", "stability"]
    everyone = tiny_params(sources=sources, budget={"ml_trials": 2, "dl_trials": 3, "seconds": 1}).study
    assert everyone.elemnet_sources == tuple(sources)
    named = tiny_params(sources=sources, elemnet_sources=["band_gap"]).study
    assert named.elemnet_sources == ("band_gap",)
    assert named.sources == tuple(sources)
    assert tiny_params(sources=sources, elemnet_sources=[]).study.elemnet_sources == ()


def test_methods_of_the_paper_transfer_from_the_elemnet_sources_alone(tiny_params):
    study = tiny_params(sources=["formation_energy", "band_gap"], elemnet_sources=["band_gap"]).study
    for method in (Method.FINETUNE, Method.FREEZING, Method.ML_FEATEXTR):
        assert [source for source, _ in study.points(method)] == ["band_gap"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"elemnet_sources": ["stability"]}, "elemnet_sources names stability, no source of this study"),
        (
            {"elemnet_sources": ["formation_energy"] * 2},
            "elemnet_sources names formation_energy more than once",
        ),
        (
            JOINT | {"joint": {"all_sources": ["formation_energy", "stability"]}},
            "joint.all_sources names stability, no source of this study",
        ),
        (
            JOINT | {"joint": {"all_sources": ["formation_energy"] * 2}},
            "joint.all_sources names formation_energy more than once",
        ),
        (JOINT | {"joint": {"slme": ["formation_energy"]}}, "joint.slme has the name of a property"),
        (
            JOINT | {"joint": {"formation_energy": ["formation_energy"]}},
            "joint.formation_energy has the name of a property",
        ),
        (
            JOINT | {"joint": {"one": ["formation_energy"], "two": ["formation_energy"]}},
            "study.joint: Dictionary should have at most 1 item",
        ),
        (JOINT | {"joint": {"all_sources": []}}, "study.joint.all_sources"),
        (JOINT | {"joint_pretrain": None}, "joint names a network, but joint_pretrain gives it no recipe"),
        (
            {"methods": ["base", "boost_sources", "resnet_finetune"]},
            "methods holds boost_sources, resnet_finetune, which need a joint network: name one in joint",
        ),
        ({"methods": ["boost", "ml", "boost"]}, "methods names boost more than once"),
        ({"methods": ["base", "blend"]}, "methods holds blend, but nothing to be blended"),
        ({"representations": ["predicted_sources"]}, "'predicted_sources' is chosen by the method"),
        (
            {"methods": ["ml", "boost"], "budget": {"ml_trials": 1, "dl_trials": 1, "seconds": 1}},
            "budget.ml_trials is 1, but the scratch side has 2 such cells",
        ),
        (
            JOINT
            | {
                "methods": ["finetune", "resnet_finetune"],
                "budget": {"ml_trials": 1, "dl_trials": 1, "seconds": 1},
            },
            "budget.dl_trials is 1, but the transfer side has 2 such cells",
        ),
    ],
)
def test_contradiction_about_sources_and_own_methods_is_explained(tiny_values, changes, message):
    assert message in refused(tiny_values, **changes)


def test_own_methods_have_one_point_each_whatever_the_representations(tiny_params):
    study = tiny_params(
        **JOINT,
        methods=["boost", "boost_sources", "resnet", "resnet_finetune", "blend"],
        representations=["elemental_fractions", "physical_attributes"],
        budget={"ml_trials": 2, "dl_trials": 2, "seconds": 1},
    ).study
    assert {method: study.points(method) for method in study.methods} == {
        Method.BOOST: [(None, Representation.PHYSICAL_ATTRIBUTES)],
        Method.BOOST_SOURCES: [("all_sources", Representation.PREDICTED_SOURCES)],
        Method.RESNET: [(None, Representation.COMBINED)],
        Method.RESNET_FINETUNE: [("all_sources", Representation.COMBINED)],
        Method.BLEND: [(None, None)],
    }
    for side in (Side.SCRATCH, Side.TRANSFER):
        assert [study.count_cells(side, f) for f in (Family.REGRESSOR, Family.NETWORK)] == [1, 1]


def test_study_is_in_full_unless_it_says_otherwise(tiny_params):
    study = tiny_params().study
    assert (study.fidelity, study.learning_curve, study.joint, study.joint_pretrain) == (None, None, {}, None)
    assert tiny_params(fidelity=FIDELITY).study.fidelity.margin == 0.1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", 49),
        ("rows", None),
        ("steps", 0),
        ("steps", 1.5),
        ("after_screening", 0),
        ("after_first_fold", 0),
        ("margin", 0.0),
        ("margin", -0.1),
        ("margin", "5 %"),
        ("folds", 1),
    ],
)
def test_impossible_fidelity_is_refused_by_its_key(tiny_values, key, value):
    assert f"study.fidelity.{key}" in refused(tiny_values, fidelity=FIDELITY | {key: value})


def test_fidelity_has_no_defaults(tiny_values):
    message = refused(tiny_values, fidelity={"rows": 50})
    for key in ("steps", "after_screening", "after_first_fold", "margin"):
        assert f"study.fidelity.{key}: missing. Add it." in message


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ({"targets": ["spillage"], "shares": [0.5]}, "learning_curve.targets names spillage, no target"),
        ({"targets": [], "shares": [0.5]}, "study.learning_curve.targets"),
        ({"targets": ["slme"], "shares": []}, "study.learning_curve.shares"),
        ({"targets": ["slme"], "shares": [0.0]}, "study.learning_curve.shares.0"),
        ({"targets": ["slme"], "shares": [0.5, 1.0]}, "study.learning_curve.shares.1"),
        ({"targets": ["slme"]}, "study.learning_curve.shares: missing"),
    ],
)
def test_impossible_learning_curve_is_refused(tiny_values, curve, message):
    assert message in refused(tiny_values, learning_curve=curve)


def test_recipe_asks_for_no_least_number_of_batches_unless_told():
    assert Recipe(**RECIPE).min_batches == 1
    assert Recipe(**RECIPE, min_batches=16).min_batches == 16


@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True])
def test_impossible_number_of_batches_is_refused(tiny_values, value):
    assert "study.scratch.min_batches" in refused(tiny_values, scratch=RECIPE | {"min_batches": value})
