"""The grid of a target: which cells there are, what each may spend, and what its identity hangs on."""

from __future__ import annotations

import copy

import pytest

from crossprop.config import parse_params
from crossprop.experiments import grid
from crossprop.experiments.grid import enumerate_cells
from crossprop.methods import PAPER_METHODS, Family, Method, Representation, Side

EF, PA, ACTIVATIONS = tuple(Representation)[:3]
EVERYTHING = {
    "methods": list(PAPER_METHODS),
    "sources": ["formation_energy", "band_gap", "stability"],
    "representations": ["elemental_fractions", "physical_attributes"],
    "budget": {"ml_trials": 11, "dl_trials": 26, "seconds": 740.0},
}
DIGESTS = {"formation_energy": "f", "band_gap": "b", "stability": "s"}


def enumerated(params, target="slme", unit="%", data="d", sources=DIGESTS):
    return enumerate_cells(params, target, unit, data, sources)


def ids(cells):
    return [cell.id for cell in cells]


@pytest.fixture
def full(tiny_params):
    return tiny_params(**EVERYTHING)


def test_every_method_has_its_cells_in_the_order_of_the_study(full):
    points = [(c.method, c.source, c.representation) for c in enumerated(full)]
    sources = EVERYTHING["sources"]
    assert points == [
        (Method.BASE, None, None),
        *[(Method.ML, None, r) for r in (EF, PA)],
        *[(Method.DL, None, r) for r in (EF, PA)],
        *[(Method.ML_FEATEXTR, s, ACTIVATIONS) for s in sources],
        *[(Method.DL_FEATEXTR, s, ACTIVATIONS) for s in sources],
        *[(Method.FINETUNE, s, EF) for s in sources],
        *[(Method.MODFINETUNE, s, EF) for s in sources],
        *[(Method.FREEZING, s, ACTIVATIONS) for s in sources],
    ]
    assert len(points) == 20


@pytest.mark.parametrize(("family", "trials"), [(Family.REGRESSOR, 11), (Family.NETWORK, 26)])
def test_both_sides_get_all_of_their_trials_and_equally_many(full, family, trials):
    spent = {
        side: sum(c.n_trials for c in enumerated(full) if c.method.side is side and c.method.family is family)
        for side in (Side.SCRATCH, Side.TRANSFER)
    }
    assert spent == {Side.SCRATCH: trials, Side.TRANSFER: trials}


def test_earlier_cells_take_the_remainder(full):
    cells = enumerated(full)
    assert [c.n_trials for c in cells if c.method is Method.ML] == [6, 5]  # 11 = 6 + 5
    assert [c.n_trials for c in cells if c.method is Method.ML_FEATEXTR] == [4, 4, 3]  # 11 = 4 + 4 + 3
    networks = [
        c.n_trials for c in cells if c.method.side is Side.TRANSFER and c.method.family is Family.NETWORK
    ]
    assert networks == [3, 3] + [2] * 10  # 26 = 12 * 2 + 2
    assert [c.n_trials for c in cells if c.method is Method.BASE] == [0]


def test_seconds_of_both_sides_are_the_budget_shared_by_trials(full):
    cells = enumerated(full)
    for side in (Side.SCRATCH, Side.TRANSFER):
        assert sum(c.seconds for c in cells if c.method.side is side) == pytest.approx(740.0)
    assert next(c.seconds for c in cells if c.method is Method.ML) == pytest.approx(740 * 6 / 37)


def test_side_with_one_family_may_spend_the_whole_ceiling_on_it(tiny_params):
    cells = enumerated(tiny_params(methods=["ml", "finetune", "ml_featextr"]))
    assert next(c.seconds for c in cells if c.method is Method.ML) == pytest.approx(600.0)
    assert sum(c.seconds for c in cells if c.method.side is Side.TRANSFER) == pytest.approx(600.0)


def test_only_networks_have_recipes_and_transferred_weights_have_their_own(tiny_values):
    tiny_values["study"] |= {
        "methods": list(PAPER_METHODS),
        "budget": {"ml_trials": 3, "dl_trials": 9, "seconds": 9},
    }
    tiny_values["study"]["transfer"] = {**tiny_values["study"]["transfer"], "epochs": 7}
    by_method = {c.method: c for c in enumerated(parse_params(tiny_values))}
    assert by_method[Method.ML].recipe is by_method[Method.BASE].recipe is None
    assert {m for m, c in by_method.items() if c.recipe and c.recipe.epochs == 7} == {
        Method.FINETUNE, Method.MODFINETUNE,
    }  # fmt: skip
    assert by_method[Method.FREEZING].recipe == by_method[Method.DL].recipe


def test_folds_are_the_targets_own(tiny_params):
    params = tiny_params(targets=["slme", "spillage"], folds_by_target={"spillage": 5})
    assert {c.folds for c in enumerated(params, "slme")} == {2}
    assert {c.folds for c in enumerated(params, "spillage")} == {5}


def test_ids_are_the_same_at_every_enumeration_and_differ_between_cells(full):
    first = ids(enumerated(full))
    assert first == ids(enumerated(parse_params(full.model_dump(mode="json"))))
    assert len(set(first)) == 20
    assert not set(first) & set(ids(enumerated(full, target="spillage")))
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in first)


def changed(params, before, **options):
    """Methods and sources of the cells whose id another enumeration changes."""
    after = enumerated(params, **options)
    return {(a.method, a.source) for a, b in zip(after, before, strict=True) if a.id != b.id}


def everything(cells):
    return {(c.method, c.source) for c in cells}


def test_other_data_change_every_id(full):
    before = enumerated(full)
    assert changed(full, before, data="other") == everything(before)


def test_other_weights_of_a_source_change_the_cells_of_that_source_alone(full):
    before = enumerated(full)
    moved = changed(full, before, sources={**DIGESTS, "band_gap": "retrained"})
    assert moved == {(m, "band_gap") for m in PAPER_METHODS if m.side is Side.TRANSFER}


@pytest.mark.parametrize(
    ("path", "value", "methods"),
    [
        ("study.seed", 2, set(PAPER_METHODS)),
        ("study.protocol", "strict", set(PAPER_METHODS)),
        ("study.folds", 3, set(PAPER_METHODS)),
        ("study.name", "other", set(PAPER_METHODS)),
        ("study.scratch.epochs", 9, {Method.DL, Method.DL_FEATEXTR, Method.FREEZING}),
        ("study.scratch.min_steps", 50, {Method.DL, Method.DL_FEATEXTR, Method.FREEZING}),
        ("study.transfer.learning_rate", 0.0015, {Method.FINETUNE, Method.MODFINETUNE}),
        ("search.dl.learning_rate.high", 0.1, {Method.DL, Method.DL_FEATEXTR, Method.FREEZING}),
        ("search.finetune.learning_rate.low", 0.0001, {Method.FINETUNE, Method.MODFINETUNE}),
        ("search.ml.algorithms.ridge.alpha.default", 2.0, {Method.ML, Method.ML_FEATEXTR}),
        ("search.ml.defaults_first", 1, {Method.ML, Method.ML_FEATEXTR}),
        ("search.default_layer", "hidden_16", {Method.ML_FEATEXTR, Method.DL_FEATEXTR}),
        ("search.layers", ["hidden_15", "hidden_16"], {Method.ML_FEATEXTR, Method.DL_FEATEXTR}),
        ("compute.backend", "jax", set(PAPER_METHODS) - {Method.BASE, Method.ML}),
        ("study.title", "Another headline", set()),
        ("study.targets", ["slme", "spillage"], set()),
        ("study.edition", "full", set()),
        ("study.pretrain.epochs", 99, set()),
        ("compute.workers", 3, set()),
        ("compute.retries", 3, set()),
    ],
)
def test_ids_hang_on_what_the_cell_computes_and_on_nothing_else(full, path, value, methods):
    before = enumerated(full)
    values = copy.deepcopy(full.model_dump(mode="json"))
    *parents, last = path.split(".")
    node = values
    for name in parents:
        node = node[name]
    node[last] = value
    assert {method for method, _ in changed(parse_params(values), before)} == methods


def test_order_of_the_zoo_counts_since_its_defaults_are_tried_in_that_order(full):
    values = full.model_dump(mode="json")
    algorithms = values["search"]["ml"]["algorithms"]
    values["search"]["ml"]["algorithms"] = dict(reversed(algorithms.items()))
    assert {m for m, _ in changed(parse_params(values), enumerated(full))} == {Method.ML, Method.ML_FEATEXTR}


def test_budget_of_one_family_leaves_the_other_family_alone(full):
    values = full.model_dump(mode="json")
    values["study"]["budget"] |= {"ml_trials": 22, "seconds": 740.0 * (22 + 26) / (11 + 26)}
    moved = {m for m, _ in changed(parse_params(values), enumerated(full))}
    assert moved == {Method.ML, Method.ML_FEATEXTR}


def test_seeds_of_tasks_differ_and_are_stable(full):
    cells = enumerated(full)
    seeds = {
        cell.seed_for(*parts)
        for cell in cells
        for parts in (("screening",), ("fold", 0), ("fold", 1), ("sampler",))
    }
    assert len(seeds) == 4 * len(cells)
    assert all(0 <= seed < 2**32 for seed in seeds)
    other = enumerated(full, data="other")
    assert cells[3].seed_for("fold", 1) == other[3].seed_for("fold", 1)  # data do not change a cell's luck


def test_seed_of_the_study_changes_the_seeds_of_its_tasks(tiny_params):
    one, two = (enumerated(tiny_params(seed=seed))[1].seed_for("screening") for seed in (1, 2))
    assert one != two


def test_code_that_computes_is_part_of_the_identity(full, monkeypatch):
    before = enumerated(full)
    monkeypatch.setattr(grid, "code_digest", lambda: "other")
    assert changed(full, before) == everything(before)
