"""The published files themselves, where a mirror of them is at hand."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossprop.data.catalog import load_catalog
from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.data.download import blob_id
from crossprop.data.prepare import prepare_target
from crossprop.data.sources import prepare_source
from crossprop.data.splits import training_rows

pytestmark = pytest.mark.skipif("CROSSPROP_MIRROR" not in os.environ, reason="needs CROSSPROP_MIRROR")

CATALOG = load_catalog()
MIRROR = Path(os.environ.get("CROSSPROP_MIRROR", "."))
PAPER = [e for e in CATALOG.entries("target") if e.embedded is None]


@pytest.fixture(scope="module")
def targets():
    return {entry.key: prepare_target(CATALOG, entry.key, MIRROR) for entry in PAPER}


def test_every_file_of_edition_open_is_at_hand_and_as_pinned():
    files = CATALOG.pinned_files(edition="open")
    assert all(blob_id(MIRROR / f.relative_path) == f.blob for f in files)
    assert all((MIRROR / f.relative_path).stat().st_size == f.size for f in files)


def test_rows_are_those_of_the_catalogue_and_only_the_known_spreadsheet_dates_are_repaired(targets):
    assert len(targets) == 41
    assert {entry.key: len(targets[entry.key].frame) for entry in PAPER} == {e.key: e.rows for e in PAPER}
    report = pd.concat(d.cleaning for d in targets.values())
    repaired = report[report["action"] == "repaired"]
    assert repaired[["file", "line", "formula"]].values.tolist() == [
        ["meps_training_set.csv", 5942, "2-Feb"],
        ["meps_training_set.csv", 6526, "3-Feb"],
        ["mbj_bandgap_training_set.csv", 3934, "2-Feb"],
    ]
    assert not (report["action"] == "dropped").any()


def test_the_mean_of_the_training_values_reproduces_the_papers_base(targets):
    """Ties columns, units and splits of all 41 targets to the paper's tables."""
    ratios = {}
    for entry in PAPER:
        frame = targets[entry.key].frame
        train, test = (frame.loc[frame["split"] == s, "value"] for s in ("train", "test"))
        ratios[entry.key] = np.abs(test - train.mean()).mean() / entry.paper.base_mae
    assert all(0.94 < ratio < 1.01 for ratio in ratios.values()), ratios
    assert 0.995 < np.median(list(ratios.values())) < 1.001


def test_strict_drops_the_repeated_compositions_of_deltae(targets):
    frame = targets["deltae"].frame
    published, strict = training_rows(frame, "published"), training_rows(frame, "strict")
    assert len(published) - len(strict) == 228
    held_out = frame[frame["split"] == "test"]
    seen = held_out["composition"].isin(set(frame["composition"].iloc[published])).sum()
    assert seen == 220
    assert not held_out["composition"].isin(set(frame["composition"].iloc[strict])).any()


def test_the_open_formation_energy_holds_no_target_composition_and_its_implied_values_are_right(targets):
    excluded = set().union(*(set(d.frame["composition"]) for d in targets.values()))
    data = prepare_source(CATALOG, "formation_energy", MIRROR, excluded, "open")
    assert not set(data.frame["composition"]) & excluded
    assert 138_000 < len(data.frame) < 139_000
    assert data.frame["composition"].is_unique
    assert data.frame["value"].between(-15, 5).all()
    (fit,) = [r for r in data.cleaning["reason"] if r.startswith("elemental references fitted")]
    assert "mean residual 0.00017" in fit
    # Decimal formulas of another publisher find their targets too.
    (key,) = composition_keys(fraction_matrix(["Mo0.333333S0.666667"]))
    assert key in excluded
