"""params.yaml is refused with the path of the offending key, and never half understood."""

import pytest
import yaml

from crossprop.config import Recipe, load_params, parse_params
from crossprop.errors import ConfigError
from crossprop.methods import DEFAULT_SEED, EXTRACTION_LAYERS, Protocol

RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}
THREE = {"targets": ["slme", "spillage", "encut"]}
JOINT = {"joint": {"all_sources": ["formation_energy"]}, "joint_pretrain": RECIPE}
FIDELITY = {"rows": 50, "steps": 10, "after_screening": 1, "after_first_fold": 1, "margin": 0.1}
CURVE = {"targets": ["slme"], "shares": [0.5]}


def put(values, path, value):
    """Set one value by its dotted path."""
    *parents, last = path.split(".")
    node = values
    for name in parents:
        node = node[name]
    node[int(last) if isinstance(node, list) else last] = value
    return values


def test_what_is_left_out_takes_the_papers_protocol(tiny_values):
    params = parse_params(tiny_values)
    study = params.study
    assert study.seed == DEFAULT_SEED == 1234567
    assert study.protocol is Protocol.PUBLISHED
    assert (study.edition, study.tier, study.shards, study.joint) == ("open", "", {}, {})
    assert (study.scratch.dropout, study.scratch.patience) == (0, None)
    assert (study.fidelity, study.learning_curve, study.joint_pretrain) == (None, None, None)
    assert params.compute.backend == "tensorflow"
    recipe = Recipe(**RECIPE)
    assert (recipe.weight_decay, recipe.schedule, recipe.warmup_fraction) == (0, "cosine", 0.1)
    assert (recipe.min_batches, recipe.min_steps) == (1, 0)
    del tiny_values["search"]["layers"]
    tiny_values["search"]["default_layer"] = "hidden_02"
    assert parse_params(tiny_values).search.layers == EXTRACTION_LAYERS


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("study", ["transport"]),
        ("study.name", ["../elsewhere", "1e5"]),
        ("study.methods.1", ["gradient_boosting"]),
        ("study.targets", ["slme", []]),
        ("study.folds", ["10", 2.5, True, 1]),
        ("study.folds_by_target", [{"slme": 1}]),
        ("study.seed", ["12", 1.5, True, -1]),
        ("study.shards", [{"a": []}, {"../a": ["slme"]}]),
        ("study.budget.seconds", ["60", 0, float("inf"), float("nan")]),
        ("study.scratch.learning_rate", ["0.001", 0.0, float("inf"), float("nan")]),
        ("study.scratch.dropout", [1.0]),
        ("study.scratch.restore_best", ["perhaps", 1]),
        ("study.fidelity.rows", [49, None]),
        ("study.learning_curve.shares", [[], [0.0], [0.5, 1.0]]),
        ("search.ml.algorithms", [{}]),
        ("compute.workers", ["all", -1]),
    ],
)
def test_impossible_value_is_refused_with_its_path_and_what_was_received(tiny_values, path, values):
    tiny_values["study"] |= {"fidelity": dict(FIDELITY), "learning_curve": dict(CURVE)}
    for value in values:
        with pytest.raises(ConfigError) as caught:
            parse_params(put(tiny_values, path, value), origin="params.yaml")
        assert str(caught.value).startswith("params.yaml is refused:")
        assert f"  {path}" in str(caught.value), value
        if not isinstance(value, (dict, list)) and "unknown key" not in str(caught.value):
            assert f"received {value!r}" in str(caught.value)


def trials(n):
    return {"budget": {"ml_trials": n, "dl_trials": n, "seconds": 1}}


def test_contradiction_within_a_study_is_explained(tiny_values):
    for changes, message in (
        ({"targets": ["slme", "formation_energy"]}, "formation_energy cannot be both target and source"),
        ({"targets": ["slme", "spillage", "slme"]}, "targets names slme more than once"),
        ({"sources": []}, "sources is empty, but methods holds transfer methods"),
        ({"representations": ["activations"]}, "'activations' is chosen by the method"),
        ({"representations": ["combined_sources"]}, "'combined_sources' is chosen by the method"),
        ({"folds_by_target": {"spillage": 3}}, "folds_by_target names spillage, no target of this study"),
        (
            trials(1) | {"representations": ["elemental_fractions", "physical_attributes"]},
            "budget.ml_trials is 1, but the scratch side has 2 such cells",
        ),
        (
            JOINT | trials(1) | {"methods": ["finetune", "resnet_finetune"]},
            "budget.dl_trials is 1, but the transfer side has 2 such cells",
        ),
        (
            {"elemnet_sources": [], "methods": ["ml", "finetune"]},
            "methods holds finetune, which transfer from an ElemNet",
        ),
        ({"elemnet_sources": ["stability"]}, "elemnet_sources names stability, no source of this study"),
        (JOINT | {"joint": {"all": ["stability"]}}, "joint.all names stability, no source of this study"),
        (JOINT | {"joint": {"slme": ["formation_energy"]}}, "joint.slme has the name of a property"),
        (JOINT | {"joint": {"a": ["x"], "b": ["x"]}}, "joint: Dictionary should have at"),
        (JOINT | {"joint_pretrain": None}, "but joint_pretrain gives it no recipe"),
        (
            {"methods": ["base", "boost_sources", "resnet_finetune"]},
            "methods holds boost_sources, resnet_finetune, which need a joint network: name one in joint",
        ),
        ({"methods": ["base", "blend"]}, "methods holds blend, but nothing to be blended"),
        ({"learning_curve": CURVE | {"targets": ["b"]}}, "learning_curve.targets names b, no target"),
        ({"fidelity": {"rows": 50}}, "study.fidelity.margin: missing. Add it."),
        (THREE | {"shards": {"a": ["slme", "encut"], "b": ["spillage", "encut"]}}, "once; look at encut"),
        (THREE | {"shards": {"a": ["slme", "encut"], "b": ["spillage", "klu"]}}, "once; look at klu"),
        (THREE | {"shards": {"a": ["slme"]}}, "look at encut, spillage"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse_params(tiny_values | {"study": tiny_values["study"] | changes})
        assert message in str(caught.value)


def test_impossible_range_is_refused_with_its_place(tiny_values):
    for given, message in (
        ({"low": 2.0, "high": 1.0, "default": 1.5}, "low below high"),
        ({"low": 1.0, "default": 1.0}, "low and high are needed"),
        ({"low": 0.0, "high": 1.0, "log": True, "default": 0.5}, "low above 0"),
        ({"low": 0.0, "high": 1.0, "default": "much"}, "'much' is no number"),
        ({"choices": ["a", "b"], "default": "c"}, "'c' is none of the choices"),
        ({"choices": [1, 2], "low": 0.0, "default": 1}, "either choices or low/high"),
        ({"low": 0.0, "high": 1.0}, "default"),
        ({"low": 1, "high": 3, "integer": True, "default": 1.5}, "whole low, high and default"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            parse_params(put(tiny_values, "search.ml.algorithms.ridge.alpha", given))
        assert "search.ml.algorithms.ridge.alpha" in str(caught.value)


def test_first_trial_of_a_network_is_its_recipe_which_lies_in_the_search_space(tiny_values):
    for section, recipe in (("dl", "scratch"), ("finetune", "transfer")):
        message = rf"study\.{recipe}\.learning_rate is the default of search\.{section}\.learning_rate: "
        with pytest.raises(ConfigError, match=message + "default 0.1 lies outside 0.0005 to 0.002"):
            parse_params(put(tiny_values, f"study.{recipe}", {**RECIPE, "learning_rate": 0.1}))
        put(tiny_values, f"study.{recipe}", RECIPE)
    tiny_values["search"]["dl"] = {"schedule": {"choices": ["constant"]}}
    with pytest.raises(ConfigError, match="default 'cosine' is none of the choices"):
        parse_params(tiny_values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("search.layers", ["hidden_16", "hidden_17"], "search: layers names hidden_17, known are hidden_01"),
        ("search.default_layer", "hidden_02", "'hidden_02' is not among layers"),
        ("search.dl.epochz", {"low": 1, "high": 2}, r"dl.epochz: 1(\.0)? is refused"),
        ("search.finetune.learning_rate", {"low": -1.0, "high": 2.0}, "learning_rate: -1.0 is refused"),
        ("search.ml.algorithms.magic", {}, "ml.algorithms names magic"),
        (
            "search.ml.algorithms.extra_trees",
            {"aggregation": {"choices": ["medain"], "default": "medain"}},
            "names medain",
        ),
        ("search.ml.shared", {"target_transform": {"choices": ["log"], "default": "log"}}, "names log"),
        ("search.ml.shared", {"max_dept": {"low": 1, "high": 2, "default": 1}}, "shared names max_dept"),
        ("study", {}, r"study\.budget: missing\. Add it\."),
        ("study.scratch.epoch", 1, "study.scratch.epoch: unknown key"),
        ("search.ml.algorithm", 1, "search.ml.algorithm: unknown key"),
        ("cluster", 1, "cluster: unknown key"),
        ("search.dl.learning_rate.default", 1, "search.dl.learning_rate.default: unknown key"),
    ],
)
def test_what_no_fit_would_take_is_refused(tiny_values, path, value, message):
    with pytest.raises(ConfigError, match=message):
        parse_params(put(tiny_values, path, value))


def test_all_mistakes_are_listed_at_once_and_a_list_is_no_configuration(tiny_values):
    with pytest.raises(ConfigError, match=r"(?s)study\.folds.*compute\.backend"):
        parse_params(put(put(tiny_values, "study.folds", 0), "compute.backend", "torch"))
    with pytest.raises(ConfigError, match="should be a valid dictionary"):
        parse_params([])


def test_file_equals_the_values_that_it_was_written_from_and_cannot_be_changed(tmp_path, tiny_values):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tiny_values), encoding="utf-8")
    params = load_params(path)
    assert params == parse_params(tiny_values)
    with pytest.raises(ValueError, match="frozen"):
        params.study.folds = 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"study: [1, 2", r"params\.yaml is no YAML"),
        (b"\xff\xfe\x00s", r"params\.yaml is no YAML"),
        (b"study:\n  folds: 5\n  folds: 7\n", r"(?s)'folds' is given twice.*line 3"),
        (None, r"params\.yaml is missing\. Run from the project's root"),
    ],
)
def test_file_that_cannot_be_read_is_refused_by_its_name(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_params(path)
    with pytest.raises(ConfigError, match=rf"{tmp_path.name} cannot be read: Is a directory"):
        load_params(tmp_path)
