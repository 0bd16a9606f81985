"""Pretraining: what is saved beside a source network, and what tells two of them apart."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pandas as pd
import pytest

from crossprop.errors import DataError, ModelFormatError, StoreError
from crossprop.experiments.pretrain import load_provenance, pretrain_source, source_key
from crossprop.models.fitted import save_network
from crossprop.models.target_transform import TargetTransform
from crossprop.models.transfer import load_network, weights_digest
from crossprop.paths import StudyPaths


@pytest.fixture
def folder(pretrained_source):
    return StudyPaths("tiny", pretrained_source[0]).source_model("formation_energy")


def test_provenance_says_what_the_network_was_made_from(folder, pretrained_source):
    facts = load_provenance(folder)
    assert (facts["source"], facts["unit"], facts["edition"]) == ("formation_energy", "eV/atom", "open")
    assert (facts["n_train"], facts["n_validation"]) == (64, 16)
    assert facts["weights_sha256"] == weights_digest(load_network(folder / "network.keras"))
    assert facts["recipe"]["epochs"] == 2
    assert facts["versions"]["backend"] == "tensorflow"
    frame = pd.read_parquet(StudyPaths("tiny", pretrained_source[0]).prepared("formation_energy"))
    values = {split: rows["value"].to_numpy() for split, rows in frame.groupby("split")}
    median = np.median(values["train"])
    assert facts["validation_mae_of_median"] == pytest.approx(np.abs(values["validation"] - median).mean())
    assert TargetTransform(**facts["scaling"]).centre == pytest.approx(median)


def test_stated_error_is_that_of_the_saved_network(folder, pretrained_source):
    facts = load_provenance(folder)
    paths = StudyPaths("tiny", pretrained_source[0])
    frame = pd.read_parquet(paths.prepared("formation_energy"))
    rows = np.flatnonzero(frame["split"] == "validation")
    fractions = np.load(paths.features("formation_energy") / "elemental_fractions.npy")[rows]
    outputs = np.asarray(load_network(folder / "network.keras")(fractions))[:, 0]
    predicted = TargetTransform(**facts["scaling"]).inverse(outputs)
    assert facts["validation_mae"] == pytest.approx(np.abs(predicted - frame["value"][rows]).mean(), rel=1e-4)


def test_history_and_progress_tell_of_every_epoch(folder, pretrained_source):
    history = pd.read_csv(folder / "history.csv")
    assert history["epoch"].tolist() == [1, 2]
    assert history["val_mae"].iloc[-1] == pytest.approx(load_provenance(folder)["validation_mae"], rel=1e-4)
    lines = pretrained_source[1]
    assert lines[0] == "formation_energy: pretraining on 64 compositions, 2 epochs"
    assert [line.split(",")[0] for line in lines[1:]] == [
        "formation_energy [epoch 1/2",
        "formation_energy [epoch 2/2",
    ]
    assert "eV/atom" in lines[1]


def test_key_hangs_on_data_recipe_seed_and_weights_but_not_on_time(folder):
    facts = load_provenance(folder)
    assert source_key(facts) == facts["key"]
    assert source_key({**facts, "seconds": 1e6, "peak_memory": 1}) == facts["key"]
    for name in ("data_sha256", "weights_sha256", "seed", "source"):
        assert source_key({**facts, name: "other"}) != facts["key"]
    assert source_key({**facts, "recipe": {**facts["recipe"], "epochs": 3}}) != facts["key"]


@pytest.mark.parametrize("content", [None, "", "{", "\x00"])
def test_unreadable_provenance_says_what_to_do(tmp_path, content):
    if content is not None:
        (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(ModelFormatError, match=r"holds no readable provenance\.json.*Pretrain the source"):
        load_provenance(tmp_path)


@pytest.fixture
def prepared(tmp_path, pretrained_source):
    """A copy of the prepared tiny source, and its paths."""
    import shutil

    shutil.copytree(pretrained_source[0] / "data", tmp_path / "data")
    return StudyPaths("tiny", tmp_path)


def test_source_without_validation_rows_is_refused(prepared, tiny_params):
    table = prepared.prepared("formation_energy")
    pd.read_parquet(table).assign(split="train").to_parquet(table)
    with pytest.raises(DataError, match=r"has no validation rows\. Run 'dvc repro prepare' again"):
        pretrain_source(tiny_params(), "formation_energy", "eV/atom", prepared, lambda line: None)


def test_full_disk_leaves_no_half_of_a_network(prepared, tiny_params, monkeypatch, folder):
    from crossprop.experiments import pretrain
    from crossprop.training.trainer import NetworkTrainer

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pretrain, "NetworkTrainer", lambda jit: NetworkTrainer())
    monkeypatch.setattr(pretrain, "save_network", full)
    with pytest.raises(StoreError, match=r"No space left on device.*Free some space or correct"):
        pretrain_source(tiny_params(), "formation_energy", "eV/atom", prepared, lambda line: None)
    assert list(prepared.source_model("formation_energy").parent.iterdir()) == []
    monkeypatch.setattr(pretrain, "save_network", save_network)
    pretrain_source(tiny_params(), "formation_energy", "eV/atom", prepared, lambda line: None)
    again = json.loads((prepared.source_model("formation_energy") / "provenance.json").read_text())
    assert again["data_sha256"] == load_provenance(folder)["data_sha256"]
