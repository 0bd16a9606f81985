"""The cells of the extension methods: their points, their share of the budget, and what their identity hangs on."""

from __future__ import annotations

import pytest

from crossprop.config import parse_params
from crossprop.experiments.grid import enumerate_cells
from crossprop.methods import Family, Method, Representation, Side

SOURCES = ["formation_energy", "band_gap"]
RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}
STUDY = {
    "methods": [str(method) for method in Method],
    "sources": SOURCES,
    "elemnet_sources": ["band_gap"],
    "joint": {"all_sources": SOURCES},
    "joint_pretrain": RECIPE,
    "representations": ["elemental_fractions", "physical_attributes"],
    "budget": {"ml_trials": 7, "dl_trials": 11, "seconds": 180.0},
}
DIGESTS = {"band_gap": "b", "all_sources": "j"}
FIDELITY = {"rows": 50, "steps": 10, "after_screening": 2, "after_first_fold": 2, "margin": 0.05}


@pytest.fixture
def values(tiny_values):
    tiny_values["study"] |= STUDY
    return tiny_values


def enumerated(values, digests=DIGESTS):
    return enumerate_cells(parse_params(values), "slme", "%", "d", digests)


def changed(values, before, **options):
    after = enumerated(values, **options)
    return {a.method for a, b in zip(after, before, strict=True) if a.id != b.id}


def test_extension_methods_follow_the_papers_each_with_one_cell(values):
    cells = enumerated(values)
    assert [cell.label for cell in cells] == [
        "base", "ml(EF)", "ml(PA)", "dl(EF)", "dl(PA)", "ml_featextr(band_gap)", "dl_featextr(band_gap)",
        "finetune(band_gap)", "modfinetune(band_gap)", "freezing(band_gap)",
        "plain baseline", "plain median",
        "boost(EF+PA)", "boost_sources(all_sources)", "resnet(EF+PA)", "resnet_finetune(all_sources)", "blend",
    ]  # fmt: skip
    assert len({cell.id for cell in cells}) == len(cells) == 17
    by_method = {cell.method: cell for cell in cells}
    assert by_method[Method.BOOST_SOURCES].representation is Representation.PREDICTED_SOURCES
    assert by_method[Method.RESNET_FINETUNE].representation is Representation.COMBINED
    assert not any(by_method[m].uses_activations for m in Method if m.extension)


def test_extension_methods_share_the_budget_of_their_side_and_family(values):
    trials = {}
    for cell in enumerated(values):
        trials.setdefault((cell.method.side, cell.method.family), []).append(cell.n_trials)
    assert trials == {
        (Side.BASE, Family.BASE): [0],
        (Side.PLAIN, Family.REGRESSOR): [0, 0],
        (Side.SCRATCH, Family.REGRESSOR): [3, 2, 2],  # ml(EF), ml(PA), boost: 7 = 3 + 2 + 2
        (Side.SCRATCH, Family.NETWORK): [4, 4, 3],  # dl(EF), dl(PA), resnet: 11 = 4 + 4 + 3
        (Side.TRANSFER, Family.REGRESSOR): [4, 3],  # ml_featextr, boost_sources
        (Side.TRANSFER, Family.NETWORK): [3, 2, 2, 2, 2],  # the paper's four, resnet_finetune
        (Side.BLEND, Family.BLEND): [0],
    }


@pytest.mark.parametrize(
    ("key", "value", "everything"),
    [
        ("rows", 60, True),
        ("steps", 11, True),
        ("after_screening", 1, False),
        ("after_first_fold", 1, False),
        ("margin", 0.5, False),
    ],
)
def test_ids_hang_on_what_a_screening_sees_and_not_on_who_goes_on_after_it(values, key, value, everything):
    values["study"]["fidelity"] = FIDELITY
    before = enumerated(values)
    values["study"]["fidelity"] = FIDELITY | {key: value}
    assert changed(values, before) == ({m for m in Method if m.tuned} if everything else set())


@pytest.mark.parametrize(
    ("path", "value", "methods"),
    [
        (("study", "joint_pretrain"), RECIPE | {"epochs": 9}, set()),
        (("study", "tier"), "quick", set()),
        (("study", "shards"), {"a": ["slme"]}, set()),
        (("study", "learning_curve"), {"targets": ["slme"], "shares": [0.5]}, set()),
        (
            ("study", "scratch"),
            RECIPE | {"min_batches": 4},
            {Method.DL, Method.DL_FEATEXTR, Method.FREEZING, Method.RESNET},
        ),
        (
            ("study", "transfer"),
            RECIPE | {"min_batches": 4},
            {Method.FINETUNE, Method.MODFINETUNE, Method.RESNET_FINETUNE},
        ),
        (
            ("search", "extension"),
            {"algorithms": {"extra_trees": {}}},
            {Method.BOOST, Method.BOOST_SOURCES},
        ),
        (
            ("compute", "backend"),
            "jax",
            {m for m in Method if m.tuned} - {Method.ML, Method.BOOST},
        ),
    ],
)
def test_ids_of_extension_methods_hang_on_what_they_compute(values, path, value, methods):
    values["study"]["scratch"] = values["study"]["transfer"] = RECIPE
    before = enumerated(values)
    values[path[0]][path[1]] = value
    assert changed(values, before) == methods


def test_joint_network_changes_the_cells_that_use_it_alone(values):
    moved = changed(values, enumerated(values), digests=DIGESTS | {"all_sources": "other"})
    assert moved == {Method.BOOST_SOURCES, Method.RESNET_FINETUNE}


def test_seed_of_a_target_is_shared_by_its_cells_and_differs_between_targets_and_uses(values):
    values["study"]["targets"] = ["slme", "spillage"]
    params = parse_params(values)
    slme, spillage = (enumerate_cells(params, t, "", "d", DIGESTS) for t in ("slme", "spillage"))
    assert len({cell.seed_for_target("rows") for cell in slme}) == 1
    assert slme[0].seed_for_target("rows") != spillage[0].seed_for_target("rows")
    assert slme[0].seed_for_target("rows") != slme[0].seed_for_target("share")
    assert len({cell.seed_for("rows") for cell in slme}) == len(slme)
