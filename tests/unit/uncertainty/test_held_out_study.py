"""The study of held-out chemistries: who is left out, who learns, and what is counted."""

import itertools

import numpy as np
import pandas as pd
import pytest
from tool_modules import ROOT, load_script

from crossprop.data.compositions import composition_keys, fraction_matrix

MAIN_GROUP = ["Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Al", "Ga"]
METALS = [*MAIN_GROUP, "Ti", "Zr", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ce", "Nd"]
ANIONS = ["O", "S", "Se", "N", "F", "Cl", "C"]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return load_script("benchmarks/held_out_chemistry.py")


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """588 binaries, every tenth of them for the published hold-out."""
    formulas = [f"{m}{a}{x}{b}" for m, x, a, b in itertools.product(METALS, ANIONS, (1, 2), (1, 3))]
    fractions = fraction_matrix(formulas)
    columns = {"formula": formulas, "composition": composition_keys(fractions)}
    split = ["test" if i % 10 == 0 else "train" for i in range(len(formulas))]
    return pd.DataFrame(columns | {"value": fractions @ np.linspace(0, 10, 86) ** 2, "split": split})


def test_development_sees_no_row_of_the_chemistries_or_of_the_hold_out(study, frame):
    final = set().union(
        *(rows.loc[away, "formula"] for _, rows, away in study.splits_of(frame, False, seed=1)),
        frame.loc[frame["split"] == "test", "formula"],
    )
    assert not any(final & set(rows["formula"]) for _, rows, _ in study.splits_of(frame, True, seed=1))


def test_nobody_learns_from_what_is_held_out_whatever_its_spelling(study, frame):
    twice = pd.concat([frame, frame.assign(formula="(" + frame["formula"] + ")2")], ignore_index=True)
    away = (twice["formula"].str.contains("N[13]$")).to_numpy()  # the first spelling alone
    evidence = study.learn(twice, away, most=400, seed=1)
    parts = {split: set(rows["composition"]) for split, rows in evidence.groupby("split")}
    assert not parts["train"] & (parts["away"] | parts["test"])
    assert not parts["away"] & parts["test"]
    assert parts["away"] == set(twice.loc[away, "composition"])
    assert (evidence["split"] == "train").sum() == 400


def test_report_counts_the_rows_that_were_held_out(study, frame, tmp_path):
    away = frame["formula"].str.contains("N[13]$").to_numpy()
    study.learn(frame, away, most=400, seed=1).to_parquet(tmp_path / "made_up~nitrides.parquet")
    judged = study.judged_runs([tmp_path / "made_up~nitrides.parquet"])
    assert (judged["kind"] == "held out").sum() == away.sum()
    assert judged.loc[judged["kind"] == "held out", "unseen"].all()
    study.write_report(judged, tmp_path, "study")
    row = pd.read_csv(tmp_path / "study_chemistries.csv").iloc[0]
    assert (row["target"], row["rows"], row["flagged"]) == ("made_up", away.sum(), 1.0)
    held = judged.loc[judged["kind"] == "held out", "held"]
    assert row["coverage"] == pytest.approx(held.mean(), abs=1e-4)
    assert (tmp_path / "coverage.png").stat().st_size > 1000
