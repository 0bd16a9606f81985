"""The grid of a target: which cells there are, what each may spend, and what its identity depends on."""

import copy

import pytest

from crossprop.config import parse_params
from crossprop.experiments import grid
from crossprop.experiments.grid import enumerate_cells
from crossprop.methods import PAPER_METHODS, Family, Method, Side

SOURCES = ["formation_energy", "band_gap"]
FIDELITY = {"rows": 50, "steps": 10, "after_screening": 2, "after_first_fold": 2, "margin": 0.05}
RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}
PAPER = {
    "methods": list(PAPER_METHODS),
    "sources": SOURCES,
    "representations": ["elemental_fractions", "physical_attributes"],
    "budget": {"ml_trials": 11, "dl_trials": 26, "seconds": 740.0},
}
EXTENDED = PAPER | {
    "methods": list(Method),
    "elemnet_sources": ["band_gap"],
    "joint": {"all_sources": SOURCES},
    "joint_pretrain": RECIPE,
    "scratch": RECIPE,
    "transfer": RECIPE,
    "budget": {"ml_trials": 7, "dl_trials": 11, "seconds": 180.0},
}
DIGESTS = {"formation_energy": "f", "band_gap": "b", "all_sources": "j"}
TUNED = {method for method in Method if method.tuned}
SCRATCH_NETWORKS = {Method.DL, Method.DL_FEATEXTR, Method.FREEZING, Method.RESNET}
FINE_TUNED = {Method.FINETUNE, Method.MODFINETUNE, Method.RESNET_FINETUNE}
BOOSTED = {Method.BOOST, Method.BOOST_SOURCES}
REGRESSORS = {Method.ML, Method.ML_FEATEXTR}


def enumerated(params, target="slme", data="d", sources=DIGESTS):
    return enumerate_cells(params, target, "%", data, sources)


@pytest.fixture
def paper(tiny_params):
    return enumerated(tiny_params(**PAPER))


@pytest.fixture
def values(tiny_params):
    """Plain values of a study of all methods."""
    return tiny_params(**EXTENDED).model_dump(mode="json")


def test_every_method_has_its_cells_in_the_order_of_the_study(paper, values):
    both = [
        f"{method}({source})"
        for method in ("ml_featextr", "dl_featextr", "finetune", "modfinetune", "freezing")
        for source in SOURCES
    ]
    scratch = ["base", "ml(EF)", "ml(PA)", "dl(EF)", "dl(PA)"]
    assert [cell.label for cell in paper] == [*scratch, *both]
    assert [cell.label for cell in enumerated(parse_params(values))] == [
        *scratch, *both[1::2], "plain baseline", "plain median",
        "boost(EF+PA)", "boost_sources(all_sources)", "resnet(EF+PA)", "resnet_finetune(all_sources)", "blend",
    ]  # fmt: skip


def test_both_sides_get_all_of_their_trials_and_time_and_equally_many(paper, values, tiny_params):
    for cells, regressors, networks in ((paper, 11, 26), (enumerated(parse_params(values)), 7, 11)):
        spent = {}
        for cell in cells:
            key = (cell.method.side, cell.method.family)
            spent[key] = spent.get(key, 0) + cell.n_trials
        assert {key: trials for key, trials in spent.items() if trials} == {
            (Side.SCRATCH, Family.REGRESSOR): regressors, (Side.TRANSFER, Family.REGRESSOR): regressors,
            (Side.SCRATCH, Family.NETWORK): networks, (Side.TRANSFER, Family.NETWORK): networks,
        }  # fmt: skip
    trials = {method: [cell.n_trials for cell in paper if cell.method is method] for method in PAPER_METHODS}
    assert trials[Method.ML] == [6, 5]  # earlier cells take the remainder: 11 = 6 + 5
    assert trials[Method.FINETUNE] == [3, 3]  # 26 = 8 * 3 + 2
    assert trials[Method.DL_FEATEXTR] == [4, 4]
    for side in (Side.SCRATCH, Side.TRANSFER):
        assert sum(c.seconds for c in paper if c.method.side is side) == pytest.approx(740.0)
    assert next(c.seconds for c in paper if c.method is Method.ML) == pytest.approx(740 * 6 / 37)
    # a side with one family may spend the whole ceiling on it
    cells = enumerated(tiny_params(methods=["ml", "finetune", "ml_featextr"]))
    assert next(c.seconds for c in cells if c.method is Method.ML) == pytest.approx(600.0)


def changed(values, before, **options):
    """Methods of the cells whose id another enumeration changes."""
    after = enumerated(parse_params(values), **options)
    return {a.method for a, b in zip(after, before, strict=True) if a.id != b.id}


def test_ids_depend_on_target_data_code_and_the_weights_of_the_own_source(values, monkeypatch):
    before = enumerated(parse_params(values))
    assert changed(values, before) == set()
    assert len({cell.id for cell in before}) == len(before)
    assert changed(values, before, target="spillage") == changed(values, before, data="other") == set(Method)
    joint = changed(values, before, sources=DIGESTS | {"all_sources": "new"})
    elemnet = changed(values, before, sources=DIGESTS | {"band_gap": "new"})
    assert joint == {Method.BOOST_SOURCES, Method.RESNET_FINETUNE}
    assert elemnet == {method for method in PAPER_METHODS if method.side is Side.TRANSFER}
    monkeypatch.setattr(grid, "code_digest", lambda: "other")
    assert changed(values, before) == set(Method)


@pytest.mark.parametrize(
    ("path", "value", "methods"),
    [
        ("study.seed", 2, set(Method)),
        ("study.protocol", "strict", set(Method)),
        ("study.folds", 3, set(Method)),
        ("study.fidelity.rows", 60, TUNED),
        ("study.fidelity.steps", 11, TUNED),
        *[(f"study.{key}", value, set()) for key, value in (
            ("title", "Another headline"), ("targets", ["slme", "spillage"]), ("edition", "full"),
            ("pretrain.epochs", 99), ("joint_pretrain", RECIPE | {"epochs": 9}), ("tier", "quick"),
            ("shards", {"a": ["slme"]}), ("learning_curve", {"targets": ["slme"], "shares": [0.5]}),
            ("fidelity.after_screening", 1), ("fidelity.after_first_fold", 1), ("fidelity.margin", 0.5),
        )],
        ("compute.workers", 3, set()),
        ("compute.retries", 3, set()),
        ("compute.backend", "jax", {method for method in TUNED if method.family is Family.NETWORK}),
        ("study.scratch.epochs", 9, SCRATCH_NETWORKS),
        ("study.scratch.min_steps", 50, SCRATCH_NETWORKS),
        ("study.transfer.learning_rate", 0.0015, FINE_TUNED),
        ("search.dl.learning_rate.high", 0.1, SCRATCH_NETWORKS),
        ("search.finetune.learning_rate.low", 0.0001, FINE_TUNED),
        ("search.ml.algorithms.ridge.alpha.default", 2.0, REGRESSORS),
        ("search.ml.defaults_first", 1, REGRESSORS),
        ("search.extension", {"algorithms": {"extra_trees": {}}}, BOOSTED),
        ("search.default_layer", "hidden_16", {Method.ML_FEATEXTR, Method.DL_FEATEXTR}),
        ("search.layers", ["hidden_15", "hidden_16"], {Method.ML_FEATEXTR, Method.DL_FEATEXTR}),
        ("study.budget", {"ml_trials": 14, "dl_trials": 11, "seconds": 180 * 25 / 18}, REGRESSORS | BOOSTED),
    ],
)  # fmt: skip
def test_ids_depend_on_what_the_cell_computes_and_on_nothing_else(values, path, value, methods):
    values["study"]["fidelity"] = dict(FIDELITY)
    before = enumerated(parse_params(copy.deepcopy(values)))
    *parents, last = path.split(".")
    node = values
    for name in parents:
        node = node[name]
    node[last] = value
    assert changed(values, before) == methods


def test_networks_learn_in_the_precision_of_the_driver_and_its_name_is_part_of_their_id(values):
    values["compute"] = {"precision": "float32"}
    before = enumerated(parse_params(copy.deepcopy(values)))
    assert {cell.precision for cell in before} == {"float32"}
    values["compute"]["precision"] = "mixed_bfloat16"
    networks = {method for method in TUNED if method.family is Family.NETWORK}
    assert changed(values, before) == networks
    after = enumerated(parse_params(values))
    assert {cell.method for cell in after if cell.precision == "mixed_bfloat16"} == networks


def test_order_of_the_zoo_and_of_its_hyperparameters_counts_since_values_are_tried_in_that_order(values):
    algorithms = values["search"]["ml"]["algorithms"]
    algorithms["sgd"] = {name: {"low": 0.1, "high": 0.9, "default": 0.5} for name in ("alpha", "eta0")}
    for space in (algorithms, algorithms["sgd"]):
        before = enumerated(parse_params(values))
        for name in [*space][-2::-1]:  # back to front
            space[name] = space.pop(name)
        assert changed(values, before) == REGRESSORS


def test_seeds_differ_by_task_or_target_and_depend_on_the_study_but_not_on_the_data(values):
    values["study"] |= {"targets": ["slme", "spillage"], "folds_by_target": {"spillage": 5}}
    cells, other_data = (enumerated(parse_params(values), data=data) for data in ("d", "other"))
    uses = [("screening",), ("fold", 0), ("fold", 1), ("sampler",)]
    seeds = {cell.seed_for(*use) for cell in cells for use in uses}
    assert len(seeds) == 4 * len(cells)
    assert cells[3].seed_for("fold", 1) == other_data[3].seed_for("fold", 1)
    assert len({cell.seed_for_target("rows") for cell in cells}) == 1
    spillage = enumerated(parse_params(values), "spillage")[0]
    assert (cells[0].folds, spillage.folds) == (2, 5)
    other = {spillage.seed_for_target("rows"), cells[0].seed_for_target("share")}
    assert cells[0].seed_for_target("rows") not in other
    values["study"]["seed"] = 2
    assert cells[3].seed_for("fold", 1) != enumerated(parse_params(values))[3].seed_for("fold", 1)
