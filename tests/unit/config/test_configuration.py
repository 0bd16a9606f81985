"""params.yaml is refused with the path of the offending key, and never half understood."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from crossprop.config import Range, Recipe, load_params, parse_params
from crossprop.errors import ConfigError
from crossprop.methods import DEFAULT_SEED, EXTRACTION_LAYERS, PAPER_METHODS, Family, Protocol, Side


def put(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Set one value by its dotted path."""
    *parents, last = path.split(".")
    node = values
    for name in parents:
        node = node[name]
    node[last] = value
    return values


def test_what_is_left_out_takes_the_papers_protocol(tiny_values):
    params = parse_params(tiny_values)
    assert params.study.seed == DEFAULT_SEED == 1234567
    assert params.study.protocol is Protocol.PUBLISHED
    assert params.study.edition == "open"
    assert params.study.scratch.dropout == 0
    assert params.study.scratch.patience is None
    assert params.compute.backend == "tensorflow"
    del tiny_values["search"]["layers"]
    tiny_values["search"]["default_layer"] = "hidden_02"
    assert parse_params(tiny_values).search.layers == EXTRACTION_LAYERS


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("study.fodls", 3, "study.fodls: unknown key"),
        ("study.budget.trials", 3, "study.budget.trials: unknown key"),
        ("study.scratch.epoch", 3, "study.scratch.epoch: unknown key"),
        ("search.ml.algorithm", {}, "search.ml.algorithm: unknown key"),
        ("compute.threads", 2, "compute.threads: unknown key"),
        ("cluster", {}, "cluster: unknown key"),
    ],
)
def test_unknown_key_is_named_by_its_path(tiny_values, path, value, message):
    with pytest.raises(ConfigError, match=message):
        parse_params(put(tiny_values, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("study.folds", "ten"),
        ("study.folds", "10"),
        ("study.folds", 2.5),
        ("study.folds", True),
        ("study.seed", "lucky"),
        ("study.seed", 1.5),
        ("study.targets", "slme"),
        ("study.budget.ml_trials", "many"),
        ("study.budget.seconds", "long"),
        ("study.scratch.epochs", "3"),
        ("study.scratch.learning_rate", "fast"),
        ("study.scratch.restore_best", "perhaps"),
        ("study.pretrain.batch_size", None),
        ("study.folds_by_target", {"slme": "all"}),
        ("search.dl.learning_rate.low", "small"),
        ("compute.workers", "all"),
        ("compute.retries", 0.5),
        ("study", "transport"),
        ("search", None),
    ],
)
def test_wrong_type_is_refused_with_what_was_received(tiny_values, path, value):
    with pytest.raises(ConfigError) as caught:
        parse_params(put(tiny_values, path, value), origin="params.yaml")
    assert f"  {path}" in str(caught.value)
    assert str(caught.value).startswith("params.yaml is refused:")
    if not isinstance(value, dict):
        assert f"received {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("study.folds", -1),
        ("study.folds", 1),
        ("study.folds_by_target", {"slme": 1}),
        ("study.budget.ml_trials", 0),
        ("study.budget.dl_trials", -3),
        ("study.budget.seconds", 0),
        ("study.scratch.epochs", 0),
        ("study.scratch.batch_size", 0),
        ("study.scratch.learning_rate", 0.0),
        ("study.scratch.learning_rate", -0.1),
        ("study.scratch.weight_decay", -0.1),
        ("study.scratch.dropout", 1.0),
        ("study.scratch.warmup_fraction", -0.1),
        ("study.scratch.patience", 0),
        ("study.scratch.schedule", "linear"),
        ("study.name", "My Study"),
        ("study.name", "../elsewhere"),
        ("study.edition", "closed"),
        ("study.protocol", "lenient"),
        ("study.methods.1", "gradient_boosting"),
        ("study.representations.0", "fingerprints"),
        ("study.targets", []),
        ("study.methods", []),
        ("study.representations", []),
        ("search.layers", []),
        ("search.ml.algorithms", {}),
        ("search.ml.defaults_first", 0),
        ("compute.workers", -1),
        ("compute.backend", "torch"),
    ],
)
def test_impossible_value_is_refused_with_its_path(tiny_values, path, value):
    if path.endswith((".0", ".1")):
        parent, index = path.rsplit(".", 1)
        tiny_values["study"][parent.removeprefix("study.")][int(index)] = value
    else:
        put(tiny_values, path, value)
    with pytest.raises(ConfigError) as caught:
        parse_params(tiny_values)
    assert f"  {path}" in str(caught.value)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize(
    "path",
    [
        "study.budget.seconds",
        "study.transfer.learning_rate",
        "study.pretrain.weight_decay",
        "search.finetune.learning_rate.high",
    ],
)
def test_infinity_and_nan_are_no_configuration(tiny_values, path, number):
    with pytest.raises(ConfigError, match=path.replace(".", r"\.")):
        parse_params(put(tiny_values, path, number))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["slme", "formation_energy"]}, "formation_energy cannot be both target and source"),
        ({"targets": ["slme", "spillage", "slme"]}, "targets names slme more than once"),
        ({"sources": ["band_gap", "band_gap"]}, "sources names band_gap more than once"),
        ({"methods": ["base", "ml", "ml"]}, "methods names ml more than once"),
        ({"sources": []}, "sources is empty, but methods holds transfer methods"),
        ({"representations": ["activations"]}, "'activations' is chosen by the method"),
        ({"folds_by_target": {"spillage": 3}}, "folds_by_target names spillage, no target of this study"),
        (
            {"representations": ["elemental_fractions", "physical_attributes"],
             "budget": {"ml_trials": 1, "dl_trials": 1, "seconds": 1}},
            r"budget\.ml_trials is 1, but the scratch side has 2 such cells",
        ),
        (
            {"methods": ["finetune", "modfinetune"], "sources": ["band_gap", "formation_energy"],
             "budget": {"ml_trials": 1, "dl_trials": 3, "seconds": 1}},
            r"budget\.dl_trials is 3, but the transfer side has 4 such cells",
        ),
    ],
)  # fmt: skip
def test_contradiction_within_a_study_is_explained(tiny_values, changes, message):
    tiny_values["study"] |= changes
    with pytest.raises(ConfigError, match=message) as caught:
        parse_params(tiny_values)
    assert "  study: " in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 2.0, "high": 1.0, "default": 1.5}, "low below high"),
        ({"low": 1.0, "default": 1.0}, "low and high are needed"),
        ({"low": 0.0, "high": 1.0, "log": True, "default": 0.5}, "low above 0"),
        ({"low": 0.0, "high": 1.0, "default": 2.0}, "default 2.0 lies outside 0.0 to 1.0"),
        ({"low": 0.0, "high": 1.0, "default": "much"}, "'much' is no number"),
        ({"choices": ["a", "b"], "default": "c"}, "'c' is none of the choices"),
        ({"choices": [], "default": None}, "none of the choices"),
        ({"choices": [1, 2], "low": 0.0, "default": 1}, "either choices or low/high"),
        ({"low": 0.0, "high": 1.0}, "default"),
    ],
)
def test_impossible_range_is_refused_with_its_place(tiny_values, given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_params(put(tiny_values, "search.ml.algorithms.ridge.alpha", given))
    assert "search.ml.algorithms.ridge.alpha" in str(caught.value)


def test_unknown_extraction_layer_is_refused(tiny_values):
    with pytest.raises(ConfigError, match=r"search: layers names hidden_17; known are hidden_01"):
        parse_params(put(tiny_values, "search.layers", ["hidden_16", "hidden_17"]))


def test_default_layer_must_be_among_the_layers(tiny_values):
    with pytest.raises(ConfigError, match="'hidden_02' is not among layers"):
        parse_params(put(tiny_values, "search.default_layer", "hidden_02"))


def test_all_mistakes_are_listed_at_once(tiny_values):
    put(put(tiny_values, "study.folds", 0), "compute.backend", "torch")
    with pytest.raises(ConfigError) as caught:
        parse_params(tiny_values)
    assert "study.folds" in str(caught.value)
    assert "compute.backend" in str(caught.value)


def test_missing_section_is_named(tiny_values):
    del tiny_values["study"]["budget"]
    with pytest.raises(ConfigError, match=r"study\.budget: missing\. Add it\."):
        parse_params(tiny_values)


@pytest.mark.parametrize("values", [None, [], "transport", 3])
def test_something_that_is_no_mapping_is_refused(values):
    with pytest.raises(ConfigError, match="not a mapping with the key 'study'"):
        parse_params(values)


def test_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(ConfigError, match=r"params\.yaml is missing\. Run from the project's root"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("content", [b"study: [1, 2", b"a: b: c", b"\xff\xfe\x00s", b"study: {a: 1"])
def test_file_that_is_no_yaml_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"params\.yaml is no YAML"):
        load_params(path)


def test_file_equals_the_values_that_it_was_written_from(tmp_path, tiny_values):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tiny_values), encoding="utf-8")
    assert load_params(path) == parse_params(tiny_values)


def test_infinity_in_a_file_is_refused(tmp_path, tiny_values):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(put(tiny_values, "study.budget.seconds", float("inf"))), encoding="utf-8")
    assert ".inf" in path.read_text()
    with pytest.raises(ConfigError, match=r"study\.budget\.seconds"):
        load_params(path)


def test_parsed_parameters_cannot_be_changed(tiny_params):
    params = tiny_params()
    with pytest.raises(ValueError, match="frozen"):
        params.study.folds = 3


def test_cells_of_a_side_and_family_are_counted(tiny_params):
    study = tiny_params(
        methods=list(PAPER_METHODS),
        sources=["formation_energy", "band_gap", "stability"],
        representations=["elemental_fractions", "physical_attributes"],
        budget={"ml_trials": 12, "dl_trials": 12, "seconds": 1},
    ).study
    assert study.count_cells(Side.SCRATCH, Family.REGRESSOR) == 2  # ml on EF and PA
    assert study.count_cells(Side.SCRATCH, Family.NETWORK) == 2  # dl on EF and PA
    assert study.count_cells(Side.TRANSFER, Family.REGRESSOR) == 3  # ml_featextr from three sources
    assert study.count_cells(Side.TRANSFER, Family.NETWORK) == 12  # four methods from three sources


def test_folds_of_a_target_can_be_its_own(tiny_params):
    study = tiny_params(targets=["slme", "spillage"], folds_by_target={"spillage": 7}).study
    assert (study.folds_of("slme"), study.folds_of("spillage")) == (2, 7)


def test_integer_and_choice_ranges_are_taken():
    assert Range(low=1, high=5, integer=True, default=2).default == 2
    assert Range(choices=(None, 1, "a"), default=None).default is None


def test_recipe_without_more_is_plain_adamw_on_a_cosine():
    recipe = Recipe(epochs=1, batch_size=2, learning_rate=0.1)
    assert (recipe.weight_decay, recipe.schedule, recipe.warmup_fraction) == (0, "cosine", 0.1)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("study.seed", -1),
        ("study.seed", "12"),
        ("study.seed", True),
        ("study.scratch.learning_rate", "0.001"),
        ("study.budget.seconds", "60"),
        ("study.scratch.warmup_fraction", "0.1"),
        ("study.scratch.restore_best", 1),
        ("search.ml.defaults_first", "2"),
    ],
)
def test_text_is_no_number_and_a_seed_is_not_negative(tiny_values, path, value):
    with pytest.raises(ConfigError, match=path.replace(".", r"\.")):
        parse_params(put(tiny_values, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("search.dl.epochz", {"low": 1, "high": 2, "default": 1}),
        ("search.finetune.learning_rate", {"low": -1.0, "high": 2.0, "default": 1.0}),
        ("search.ml.algorithms.magic", {}),
    ],
)
def test_hyperparameter_that_no_fit_would_take_is_refused(tiny_values, path, value):
    with pytest.raises(ConfigError):
        parse_params(put(tiny_values, path, value))


def test_integer_range_with_a_fraction_is_refused(tiny_values):
    value = {"low": 1.5, "high": 3, "integer": True, "default": 2}
    with pytest.raises(ConfigError, match="whole low, high and default"):
        parse_params(put(tiny_values, "search.dl.epochs", value))
