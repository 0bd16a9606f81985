"""Source networks, of one source and of several: what they learn from, and what is saved beside them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from made import flips

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import ConfigError, DataError, ModelFormatError
from crossprop.experiments import pretrain, ray_pretrain
from crossprop.experiments.inputs import scaling_of, source_network
from crossprop.experiments.pretrain import load_provenance, source_key, source_rows
from crossprop.features.matrices import write_features
from crossprop.methods import Representation
from crossprop.models.fitted import network_outputs, standardised
from crossprop.models.target_transform import TargetTransform
from crossprop.models.transfer import check_network, load_network, weights_digest
from crossprop.paths import StudyPaths
from crossprop.training.trainer import NetworkTrainer, feature_scaling

ENERGY, GAP = "formation_energy", "band_gap"
UNITS = {ENERGY: "eV/atom", GAP: "eV"}
NAN = np.nan
ROWS = {
    ENERGY: [("CaO", -3.0, "train"), ("MgO", -2.9, "validation"), ("NaCl", -2.0, "train"), ("KBr", -1.9, "validation")],
    GAP: [("Si", 1.1, "train"), ("Na2Cl2", 8.5, "train"), ("Mg2O2", 7.8, "train"), ("GaAs", 1.4, "validation")],
}  # fmt: skip
"""MgO and NaCl are in both sources, spelt differently; the others in one."""


@pytest.fixture
def paths(tmp_path):
    """The two sources, prepared, with their matrices."""
    paths = StudyPaths("tiny", tmp_path)
    paths.prepared_folder.mkdir(parents=True)
    for name, rows in ROWS.items():
        frame = pd.DataFrame(rows, columns=["formula", "value", "split"])
        frame["composition"] = composition_keys(fraction_matrix(frame["formula"]))
        frame.to_parquet(paths.prepared(name), index=False)
        write_features(frame, paths.features(name), list(Representation)[:2])
    return paths


def change(paths, source, edit):
    """Write the table of a source anew, as a function of it."""
    edit(pd.read_parquet(paths.prepared(source))).to_parquet(paths.prepared(source), index=False)


def test_compositions_of_all_sources_stand_once_with_what_is_known_of_them(paths):
    rows = source_rows((ENERGY, GAP), paths)
    # CaO, MgO, NaCl, KBr, and then what only the gaps know: Si, GaAs
    learnt = [[-3.0, NAN], [NAN, 7.8], [-2.0, 8.5], [NAN, NAN], [NAN, 1.1], [NAN, NAN]]
    validating = [[NAN, NAN], [-2.9, NAN], [NAN, NAN], [-1.9, NAN], [NAN, NAN], [NAN, 1.4]]
    np.testing.assert_array_equal(rows.learnt, learnt)
    np.testing.assert_array_equal(rows.validating, validating)
    change(paths, GAP, lambda frame: frame.assign(value=frame["value"] + 1e-9))
    assert source_rows((ENERGY, GAP), paths).digest != rows.digest
    with pytest.raises(DataError, match=r"stability\.parquet cannot be read: .*Run 'dvc repro prepare'"):
        source_rows((ENERGY, "stability"), paths)
    change(paths, GAP, lambda frame: frame.assign(split="train"))
    with pytest.raises(DataError, match=r"band_gap\.parquet has no validation rows"):
        source_rows((ENERGY, GAP), paths)


@pytest.fixture
def train(tiny_params, paths, monkeypatch, tensorflow):
    """Trains a joint network without XLA, whose compilation would take longer than the fit."""
    monkeypatch.setattr(pretrain, "NetworkTrainer", lambda jit, precision: NetworkTrainer())
    params = tiny_params(
        sources=[ENERGY, GAP],
        joint={"all_sources": [ENERGY, GAP]},
        joint_pretrain={"epochs": 1, "min_steps": 3, "batch_size": 8, "learning_rate": 0.001, "schedule": "constant"},
        budget={"ml_trials": 2, "dl_trials": 2, "seconds": 1},
    )
    return lambda name="all_sources": pretrain.pretrain(params, name, UNITS, paths, lambda line: None)


def test_saved_network_has_an_output_for_every_source_and_the_stated_errors(paths, train):
    with pytest.raises(ConfigError, match=r"'other' is no source or joint network of the study: .*'all_sources'\]"):
        train("other")
    provenance, history = train()
    folder = paths.source_model("all_sources")
    network = load_network(folder / "network.keras")
    assert load_provenance(folder) == json.loads(json.dumps(provenance))
    assert provenance["weights_sha256"] == weights_digest(network)
    assert (provenance["source"], provenance["sources"]) == ("all_sources", [ENERGY, GAP])
    assert (provenance["n_train"], provenance["n_validation"]) == (4, 3)
    assert provenance["n_train_by_source"] == {ENERGY: 2, GAP: 3}
    rows = source_rows((ENERGY, GAP), paths)
    scaling = np.load(folder / "scaling.npy")
    assert np.array_equal(scaling, feature_scaling(rows.features[[0, 1, 2, 4]]))  # what is learnt from
    outputs = network_outputs(network, standardised(rows.features, scaling))
    for j, source in enumerate((ENERGY, GAP)):
        predicted = TargetTransform(**provenance["scaling"][j]).inverse(outputs[:, j])
        error = np.nanmean(np.abs(predicted - rows.validating[:, j]))
        assert provenance["validation_mae_by_source"][source] == pytest.approx(error, rel=1e-4)
    # medians of what is learnt: -2.5 and 7.8
    assert provenance["validation_mae_of_median_by_source"] == pytest.approx({ENERGY: 0.5, GAP: 6.4})
    relative = [provenance["validation_mae_by_source"][s] / m for s, m in ((ENERGY, 0.5), (GAP, 6.4))]
    assert provenance["validation_mae"] == pytest.approx(np.mean(relative))
    assert history["val_mae"].iloc[-1] == pytest.approx(provenance["validation_mae"], rel=1e-5)
    assert (len(history), provenance["recipe"]["epochs"]) == (3, 1)  # an epoch of the four has one step


def test_values_of_every_source_teach_and_validation_values_do_not(paths, train):
    first, _ = train()
    for source in (ENERGY, GAP):
        change(paths, source, lambda f: f.assign(value=f["value"] + 100.0 * (f["split"] == "validation")))
    second, _ = train()
    assert second["weights_sha256"] == first["weights_sha256"]
    assert second["scaling"] == first["scaling"]
    assert second["validation_mae"] != first["validation_mae"]
    assert second["key"] != first["key"]
    # above the median, no longer below it
    change(paths, GAP, lambda f: f.assign(value=f["value"].where(f["formula"] != "Si", 12.0)))
    other, _ = train()
    assert other["weights_sha256"] != first["weights_sha256"]
    assert other["scaling"][0] == first["scaling"][0]


def test_network_that_predicts_the_median_starts_again(tiny_params, paths, monkeypatch, tensorflow):
    monkeypatch.setattr(pretrain, "NetworkTrainer", lambda jit, precision: NetworkTrainer())
    recipe = {"epochs": 1, "min_steps": 2, "batch_size": 8, "learning_rate": 0.009, "schedule": "constant"}
    params, lines = tiny_params(sources=[ENERGY], pretrain=recipe), []

    def train():
        facts, _ = pretrain.pretrain(params, ENERGY, UNITS, paths, lines.append)
        return facts["recipe"]["learning_rate"]

    monkeypatch.setattr(pretrain, "COLLAPSED", np.inf)
    assert train() == 0.009
    assert "formation_energy: pretraining on 2 compositions, 2 epochs" in lines  # of one step
    assert not any("the median" in line for line in lines)
    monkeypatch.setattr(pretrain, "COLLAPSED", 0.0)  # every network counts as collapsed
    assert train() == 0.009  # two steps are too few to judge it
    assert "little more than the median: validation MAE" in lines[-1]
    lines.clear()
    monkeypatch.setattr(pretrain, "JUDGED_FROM", 2)
    assert train() == pytest.approx(0.001)
    assert "little more than the median: validation MAE" in lines[-1]
    assert ray_pretrain._finished(params, ENERGY, paths)  # and is not trained again on a cluster
    again = [line for line in lines if "little more than the median; starting again" in line]
    assert [line.split()[-1] for line in again] == ["0.003", "0.001"]
    assert not list(paths.checkpoint(ENERGY).parent.glob("*"))


@pytest.mark.parametrize(("name", "other"), [("precision_of", "bfloat16"), ("package_versions", {"keras": "4"})])
def test_checkpoint_of_another_precision_or_package_is_not_continued(tiny_params, paths, monkeypatch, name, other):
    params = tiny_params(sources=[ENERGY])
    keys = [pretrain._checkpoint(params, ENERGY, params.study.pretrain, "rows", paths).key]
    monkeypatch.setattr(pretrain, name, lambda *names: other)
    keys.append(pretrain._checkpoint(params, ENERGY, params.study.pretrain, "rows", paths).key)
    assert keys[0] != keys[1]


def test_flipped_bit_in_any_file_of_a_network_is_refused_by_name(pretrained_joint, tmp_path):
    folder = shutil.copytree(pretrained_joint, tmp_path / "joint")
    network = folder / "network.keras"
    readers = {
        "network.keras": lambda: source_network(network),
        "scaling.npy": lambda: scaling_of(network),
        "provenance.json": lambda: load_provenance(folder),
    }
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["SHA256SUMS", "history.csv", "network.keras", "provenance.json", "scaling.npy"]
    for name in files:
        for _ in flips(folder / name):
            for read in (lambda: check_network(folder), readers.get(name)):
                if read is not None:
                    with pytest.raises(ModelFormatError, match=rf"({name}|SHA256SUMS).* Delete .*again"):
                        read()
    for name, message in (("SHA256SUMS", "lacks SHA256SUMS"), ("provenance.json", "Pretrain the source")):
        (folder / name).unlink()
        with pytest.raises(ModelFormatError, match=message):
            load_provenance(folder)


def test_provenance_says_what_the_network_was_made_from_and_its_error(pretrained_source):
    paths = StudyPaths("tiny", pretrained_source)
    folder = paths.source_model(ENERGY)
    facts, network = load_provenance(folder), load_network(folder / "network.keras")
    assert (facts["source"], facts["unit"], facts["edition"]) == (ENERGY, "eV/atom", "open")
    assert (facts["n_train"], facts["n_validation"], facts["recipe"]["epochs"]) == (64, 16, 2)
    assert facts["weights_sha256"] == weights_digest(network)
    assert facts["versions"]["backend"] == "tensorflow"
    frame = pd.read_parquet(paths.prepared(ENERGY))
    rows, values = np.flatnonzero(frame["split"] == "validation"), frame["value"].to_numpy()
    median, transform = np.median(np.delete(values, rows)), TargetTransform(**facts["scaling"])
    assert transform.centre == pytest.approx(median)
    assert facts["validation_mae_of_median"] == pytest.approx(np.abs(values[rows] - median).mean())
    fractions = np.load(paths.features(ENERGY) / "elemental_fractions.npy")[rows]
    predicted = transform.inverse(np.asarray(network(fractions))[:, 0])
    assert facts["validation_mae"] == pytest.approx(np.abs(predicted - values[rows]).mean(), rel=1e-4)
    # the key depends on data, recipe, seed and weights, but not on time
    assert source_key({**facts, "seconds": 1e6, "peak_memory": 1}) == facts["key"]
    for name in ("data_sha256", "weights_sha256", "seed", "source", "recipe"):
        assert source_key({**facts, name: "other"}) != facts["key"]
