"""Who goes on, and who wins: by hand-made validation errors."""

from __future__ import annotations

import json

import pytest
from made import make_cell

from crossprop.config import Fidelity
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.results import CellResult
from crossprop.experiments.selection import (
    after_first_fold,
    after_screening,
    best_of_method,
    category_of,
    choose_winners,
    first_fold_bracket,
    screening_bracket,
)
from crossprop.methods import Family, Method, Representation, Side

ML, DL = make_cell("ml", representation="physical_attributes"), make_cell("dl")
FIRST, SECOND, THIRD, FOURTH = (make_cell(m) for m in ("finetune", "modfinetune", "freezing", "dl_featextr"))


def fidelity(**changes):
    given = {"rows": 50, "steps": 1, "after_screening": 2, "after_first_fold": 2, "margin": 0.1}
    return Fidelity(**(given | changes))


FOUR = [FIRST, SECOND, THIRD, FOURTH]


def maes_of(cells, *values):
    return {cell.id: value for cell, value in zip(cells, values, strict=True)}


@pytest.mark.parametrize(
    ("maes", "places", "going", "stopped"),
    [
        ((4.0, 2.0, 3.0, 2.5), 2, [SECOND, FOURTH], {
            "finetune": "after screening: 100.0 % behind modfinetune",
            "freezing": "after screening: 50.0 % behind modfinetune",
        }),
        ((4.0, 2.0, 3.0, 2.5), 4, FOUR, {}),
        ((4.0, 2.0, 3.0, 2.5), 9, FOUR, {}),
        ((4.0, 2.0, 3.0, 2.5), None, FOUR, {}),  # no pruning
        ((3.0, 3.0, 3.0, 3.0), 2, [FIRST, SECOND], {
            "freezing": "after screening: 0.0 % behind finetune",
            "dl_featextr": "after screening: 0.0 % behind finetune",
        }),
    ],
    ids=["best", "as many places", "more places", "no rules", "earlier of equals"],
)  # fmt: skip
def test_best_of_a_bracket_go_on_after_the_screening(maes, places, going, stopped):
    rules = fidelity(after_screening=places) if places else None
    assert after_screening(FOUR, maes_of(FOUR, *maes), rules) == (going, stopped)


@pytest.mark.parametrize(("maes", "behind"), [((2.2, 2.0), "10.0 %"), ((0.25, 0.0), "0.25")])
def test_reason_names_the_best_cell_by_its_label_also_where_it_is_perfect(maes, behind):
    _, stopped = after_screening([DL, ML], maes_of([DL, ML], *maes), fidelity(after_screening=1))
    assert stopped == {"dl": f"after screening: {behind} behind ml(PA)"}


@pytest.mark.parametrize(
    ("maes", "rules", "going", "stopped"),
    [
        ((2.0, 2.25), {"margin": 0.1}, [FIRST], {"modfinetune": "after fold 1 of 5: 12.5 % behind finetune"}),
        ((2.0, 2.5), {"margin": 0.25}, [FIRST, SECOND], {}),
        ((2.0, 2.02, 2.01, 2.03), {}, [FIRST, THIRD], {
            "modfinetune": "after fold 1 of 5: 1.0 % behind finetune",
            "dl_featextr": "after fold 1 of 5: 1.5 % behind finetune",
        }),
        ((2.0, 2.0, 2.0, 1.9), {"after_first_fold": 3}, [FIRST, SECOND, FOURTH], {
            "freezing": "after fold 1 of 5: 5.3 % behind dl_featextr",
        }),
        ((1e9,), {"after_first_fold": 1}, [FIRST], {}),
        ((0.0, 0.0), {}, [FIRST, SECOND], {}),
        ((), {}, [], {}),
    ],
    ids=["behind", "just the margin", "no place", "earlier of equals", "one alone", "perfect", "nothing"],
)  # fmt: skip
def test_first_fold_stops_who_is_beyond_the_margin_or_has_no_place(maes, rules, going, stopped):
    cells = FOUR[: len(maes)]
    assert after_first_fold(cells, maes_of(cells, *maes), fidelity(**rules)) == (going, stopped)


@pytest.mark.parametrize(
    ("method", "screening", "first_fold"),
    [
        ("ml", (Side.SCRATCH, Family.REGRESSOR, False), (Side.SCRATCH, False)),
        ("boost", (Side.SCRATCH, Family.REGRESSOR, True), (Side.SCRATCH, True)),
        ("dl", (Side.SCRATCH, Family.NETWORK, False), (Side.SCRATCH, False)),
        ("resnet", (Side.SCRATCH, Family.NETWORK, True), (Side.SCRATCH, True)),
        ("freezing", (Side.TRANSFER, Family.NETWORK, False), (Side.TRANSFER, False)),
        ("resnet_finetune", (Side.TRANSFER, Family.NETWORK, True), (Side.TRANSFER, True)),
        ("boost_sources", (Side.TRANSFER, Family.REGRESSOR, True), (Side.TRANSFER, True)),
        ("base", (Side.BASE, Family.BASE, False), (Side.BASE, False)),
    ],
)
def test_extension_methods_are_compared_apart_from_the_papers(method, screening, first_fold):
    cell = make_cell(Method(method))
    assert screening_bracket(cell) == screening
    assert first_fold_bracket(cell) == first_fold


def test_scratch_methods_of_the_paper_are_a_category_by_representation():
    made = [make_cell("ml", representation=r) for r in ("elemental_fractions", "physical_attributes")]
    assert len({category_of(cell) for cell in made}) == 2


@pytest.mark.parametrize("method", ["finetune", "ml_featextr", "boost", "resnet_finetune", "base"])
def test_other_methods_are_one_category(method):
    cells = [make_cell(method, source=source) for source in ("formation_energy", "band_gap")]
    assert {category_of(cell) for cell in cells} == {(Method(method), None)}


def result(method, cv_mae, cell=None, **fields):
    return CellResult(
        cell=cell or f"{method}{cv_mae}", study="s", protocol="published", target="t", unit="eV", source=None,
        method=Method(method), representation=None, n_train=9, n_test=1, cv_mae=cv_mae, **fields,
    )  # fmt: skip


@pytest.fixture
def cells(tiny_params):
    params = tiny_params(
        methods=["base", "ml", "finetune"],
        sources=["formation_energy", "band_gap", "stability"],
        representations=["elemental_fractions", "physical_attributes"],
        budget={"ml_trials": 2, "dl_trials": 3, "seconds": 1},
    )
    sources = {"formation_energy": "f", "band_gap": "b", "stability": "s"}
    return enumerate_cells(params, "slme", "%", "d", sources)  # base, ml x 2, finetune x 3


def maes(cells, *values):
    return {cell.id: value for cell, value in zip(cells, values, strict=True) if value is not None}


def test_best_of_a_method_has_the_least_validation_error(cells):
    best = best_of_method(cells, maes(cells, 9.0, 3.0, 2.0, 5.0, 4.0, 6.0))
    assert best == {Method.BASE: cells[0], Method.ML: cells[2], Method.FINETUNE: cells[4]}


def test_earlier_cell_wins_a_tie_whatever_the_order_of_the_results(cells):
    found = maes(cells, 9.0, 2.0, 2.0, 4.0, 4.0, 4.0)
    assert best_of_method(cells, found)[Method.ML] is cells[1]
    assert best_of_method(cells, dict(reversed(found.items())))[Method.FINETUNE] is cells[3]


def test_failed_cells_are_left_out(cells):
    best = best_of_method(cells, maes(cells, 9.0, None, 2.0, None, None, None))
    assert best == {Method.BASE: cells[0], Method.ML: cells[2]}


@pytest.mark.parametrize(
    ("results", "best_sc", "best_tl", "best_extension", "winner"),
    [
        # means of 9, 3.5, 4 and 3: not the least fold
        ([("base", (9.0, 9.0)), ("dl", (1.0, 6.0)), ("finetune", (4.0, 4.0)), ("ml", (3.0, 3.0))], 3, 2, None, 3),
        ([("base", (0.0, 0.0)), ("ml", (5.0, 5.0))], 1, None, None, 1),
        ([("base", (0.0, 0.0))], None, None, None, None),
        ([("ml", (3.0,)), ("finetune", (4.0,)), ("boost", (1.0,)), ("resnet_finetune", (2.0,))], 0, 1, 2, 2),
        ([("ml", (3.0,)), ("blend", (2.0,))], 0, None, 1, 1),
        ([("blend", (2.0,))], None, None, 0, 0),
        ([("plain_baseline", (1.0,)), ("plain_median", (2.0,)), ("ml", (3.0,))], 2, None, 1, 1),
        ([("ml", (1.0,)), ("plain_median", (3.0,)), ("boost", (0.5,)), ("blend", (2.0,))], 0, None, 2, 3),
        ([("ml", (1.0,)), ("plain_median", (2.0,)), ("blend", (2.0,))], 0, None, 1, 1),
        ([("boost", (1.0, 3.0)), ("freezing", (2.0, 2.0))], None, 1, 0, 1),
        ([("finetune", (3.0, 3.0)), ("dl", (2.0, 4.0)), ("ml", (4.0, 2.0))], 1, 0, None, 1),
        ([("freezing", (1.0,)), ("ml", None)], None, 0, None, 0),
        ([("ml", None)], None, None, None, None),
    ],
    ids=[
        "means", "base never wins", "base alone", "extension", "blend", "blend alone", "plain median",
        "blend beats the plain median", "blend that fell back",
        "paper wins a tie",
        "scratch and the earlier win a tie", "no scratch cell", "nothing was cross-validated",
    ],
)  # fmt: skip
def test_winners_are_chosen_by_the_mean_over_the_folds(results, best_sc, best_tl, best_extension, winner):
    made = [result(*given) for given in results]
    chosen = choose_winners(made)
    got = (chosen.best_sc, chosen.best_tl, chosen.best_extension, chosen.winner)
    expected = (best_sc, best_tl, best_extension, winner)
    for found, index in zip(got, expected, strict=True):
        assert found is (None if index is None else made[index])


def test_neither_hold_out_nor_screening_nor_a_pruned_fold_chooses():
    lucky = result("ml", (3.0, 3.0), test_mae=0.1, val_mae=0.1)
    chosen = result("dl", (2.0, 2.0), test_mae=50.0, val_mae=50.0)
    pruned = result("boost", None, val_mae=0.001, stopped="after fold 1 of 2", rung_mae=(0.1,))
    assert choose_winners([lucky, chosen, pruned]).winner is chosen


def test_mean_and_deviation_of_hand_made_folds():
    folded = result("ml", (1.0, 2.0, 6.0))
    assert folded.cv_mae_mean == 3.0
    assert folded.cv_mae_std == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert result("ml", (2.0,)).cv_mae_std == 0.0
    assert result("ml", None).cv_mae_mean is None


def test_result_survives_json():
    given = result(
        "ml", (1.0, 2.0), hyperparameters={"algorithm": "ridge", "alpha": 0.5, "deep": None}, test_r2=0.5
    )
    assert CellResult.from_dict(json.loads(json.dumps(given.as_dict()))) == given
    screened = CellResult(
        cell="c", study="s", protocol="strict", target="t", unit="", source="band_gap", method=Method.DL_FEATEXTR,
        representation=Representation.ACTIVATIONS, layer="hidden_03", n_train=2, n_test=1, failure="diverged",
    )  # fmt: skip
    assert CellResult.from_dict(json.loads(json.dumps(screened.as_dict()))) == screened
    pruned = result(
        "boost", None, rung_mae=(1.5,), stopped="after fold 1 of 3: 12.0 % behind resnet", strict_n_train=4,
        strict_test_mae=0.25,
    )  # fmt: skip
    assert CellResult.from_dict(json.loads(json.dumps(pruned.as_dict()))) == pruned
    assert screened.label == "dl_featextr(band_gap, hidden_03)"
