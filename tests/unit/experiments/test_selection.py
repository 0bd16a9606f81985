"""Who goes on, and who wins: by hand-made validation errors."""

import json
from dataclasses import replace

import pytest
from made import make_cell

from crossprop.experiments.results import CellResult
from crossprop.experiments.selection import choose_winners, going_on
from crossprop.methods import Method

FOUR = [make_cell(method) for method in ("finetune", "modfinetune", "freezing", "dl_featextr")]
FIRST, SECOND, THIRD, FOURTH = FOUR


@pytest.mark.parametrize(
    ("maes", "places", "margin", "going", "stopped"),
    [
        ((4.0, 2.0, 3.0, 2.5), 2, None, [SECOND, FOURTH], {
            "finetune": "after it: 100.0 % behind modfinetune", "freezing": "after it: 50.0 % behind modfinetune",
        }),
        ((4.0, 2.0, 3.0, 2.5), 9, None, FOUR, {}),
        ((3.0, 3.0, 3.0), 2, None, [FIRST, SECOND], {"freezing": "after it: 0.0 % behind finetune"}),
        ((0.25, 0.0), 1, None, [SECOND], {"finetune": "after it: 0.25 behind modfinetune"}),
        ((2.0, 2.25), 2, 0.1, [FIRST], {"modfinetune": "after it: 12.5 % behind finetune"}),
        ((2.0, 2.5), 2, 0.25, [FIRST, SECOND], {}),
        ((2.0, 2.02, 2.01), 2, 0.1, [FIRST, THIRD], {"modfinetune": "after it: 1.0 % behind finetune"}),
        ((), 2, 0.1, [], {}),
    ],
    ids=["best", "more places", "equals", "perfect", "behind", "just the margin", "no place", "nothing"],
)  # fmt: skip
def test_best_of_a_bracket_go_on_and_the_others_say_why_not(maes, places, margin, going, stopped):
    cells = FOUR[: len(maes)]
    known = {cell.id: mae for cell, mae in zip(cells, maes, strict=True)}
    assert going_on(cells, known, "after it", places, margin) == (going, stopped)


def result(method, cv_mae, cell=None, **fields):
    return CellResult(
        cell=cell or f"{method}{cv_mae}", study="s", protocol="published", target="t", unit="eV", source=None,
        method=Method(method), representation=None, n_train=9, n_test=1, cv_mae=cv_mae, **fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("results", "best_sc", "best_tl", "best_extension", "winner"),
    [
        # means of 9, 3.5, 4 and 3: not the least fold
        ([("base", (9.0, 9.0)), ("dl", (1.0, 6.0)), ("finetune", (4.0, 4.0)), ("ml", (3.0, 3.0))], 3, 2, None, 3),
        ([("base", (0.0, 0.0)), ("ml", (5.0, 5.0))], 1, None, None, 1),
        ([("ml", (3.0,)), ("finetune", (4.0,)), ("boost", (1.0,)), ("resnet_finetune", (2.0,))], 0, 1, 2, 2),
        ([("blend", (2.0,))], None, None, 0, 0),
        ([("plain_baseline", (1.0,)), ("plain_median", (2.0,)), ("ml", (3.0,))], 2, None, 1, 1),
        ([("ml", (1.0,)), ("plain_median", (3.0,)), ("boost", (0.5,)), ("blend", (2.0,))], 0, None, 2, 3),
        ([("ml", (1.0,)), ("plain_median", (2.0,)), ("blend", (2.0,))], 0, None, 1, 1),
        ([("blend", (2.0,)), ("plain_median", (2.0,))], None, None, 0, 1),
        ([("boost", (1.0, 3.0)), ("freezing", (2.0, 2.0))], None, 1, 0, 1),
        ([("finetune", (3.0, 3.0)), ("dl", (2.0, 4.0)), ("ml", (4.0, 2.0))], 1, 0, None, 1),
        ([("freezing", (1.0,)), ("ml", None)], None, 0, None, 0),
    ],
    ids=[
        "means", "base never wins", "extension", "blend alone", "plain median", "blend beats the plain median",
        "blend that fell back", "blend named first", "paper wins a tie", "scratch and the earlier win a tie",
        "no scratch cell",
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


def test_result_has_mean_deviation_and_label_and_survives_json():
    given = result(
        "dl_featextr", (1.0, 2.0, 6.0), hyperparameters={"algorithm": "ridge", "C": 0.5, "n": 2, "deep": None},
        rung_mae=(1.5,), stopped="after fold 1 of 3", strict_test_mae=0.25, failure="no", layer="hidden_03",
    )  # fmt: skip
    assert given.cv_mae_mean == 3.0
    assert given.cv_mae_std == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert result("ml", (2.0,)).cv_mae_std == 0.0
    assert replace(given, source="band_gap").label == "dl_featextr(band_gap, hidden_03)"
    values = json.loads(json.dumps(given.as_dict()))
    found = CellResult.from_dict(values)
    assert found == given
    assert list(map(type, found.hyperparameters.values())) == list(map(type, given.hyperparameters.values()))
    for wrong in (values | {"surplus": 1}, {key: v for key, v in values.items() if key != "n_train"}):
        with pytest.raises(ValueError, match=r"surplus|n_train"):
            CellResult.from_dict(wrong)
