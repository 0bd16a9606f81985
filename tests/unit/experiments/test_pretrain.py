"""Source networks, of one source and of several: what they learn from, and what is saved beside them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from made import flips

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import ConfigError, DataError, ModelFormatError
from crossprop.experiments import pretrain
from crossprop.experiments.inputs import scaling_of, source_network
from crossprop.experiments.pretrain import (
    joint_rows,
    load_provenance,
    pretrain_joint,
    pretrain_source,
    source_key,
)
from crossprop.features.matrices import write_features
from crossprop.methods import Representation
from crossprop.models.fitted import network_outputs, standardised
from crossprop.models.target_transform import TargetTransform
from crossprop.models.transfer import check_network, load_network, weights_digest
from crossprop.paths import StudyPaths
from crossprop.training.trainer import NetworkTrainer, feature_scaling

BOTH = [Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES]
ENERGY, GAP = "formation_energy", "band_gap"
RECIPE = {"epochs": 3, "batch_size": 8, "learning_rate": 0.001, "schedule": "constant"}
NAN = np.nan


def write_source(paths, name, rows):
    """A prepared source from (formula, value, split), with its matrices."""
    frame = pd.DataFrame(rows, columns=["formula", "value", "split"])
    frame["composition"] = composition_keys(fraction_matrix(frame["formula"]))
    paths.prepared_folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(paths.prepared(name), index=False)
    write_features(frame, paths.features(name), BOTH)
    return frame


@pytest.fixture
def paths(tmp_path):
    """Two sources: MgO and NaCl are in both, spelt differently; the others in one."""
    paths = StudyPaths("tiny", tmp_path)
    write_source(
        paths, ENERGY,
        [("CaO", -3.0, "train"), ("MgO", -2.9, "validation"), ("NaCl", -2.0, "train"), ("KBr", -1.9, "validation")],
    )  # fmt: skip
    write_source(
        paths, GAP,
        [("Si", 1.1, "train"), ("Na2Cl2", 8.5, "train"), ("Mg2O2", 7.8, "train"), ("GaAs", 1.4, "validation")],
    )  # fmt: skip
    return paths


def test_compositions_of_all_sources_stand_once_with_what_is_known_of_them(paths):
    rows = joint_rows((ENERGY, GAP), paths)
    # CaO, MgO, NaCl, KBr, and then what only the gaps know: Si, GaAs
    assert np.array_equal(
        rows.learnt,
        [[-3.0, NAN], [NAN, 7.8], [-2.0, 8.5], [NAN, NAN], [NAN, 1.1], [NAN, NAN]],
        equal_nan=True,
    )
    assert np.array_equal(
        rows.validating,
        [[NAN, NAN], [-2.9, NAN], [NAN, NAN], [-1.9, NAN], [NAN, NAN], [NAN, 1.4]],
        equal_nan=True,
    )


def test_no_value_is_both_learnt_and_validated_on(paths):
    rows = joint_rows((ENERGY, GAP), paths)
    assert not (np.isfinite(rows.learnt) & np.isfinite(rows.validating)).any()
    assert np.isfinite(rows.learnt).sum(axis=0).tolist() == [2, 3]
    assert np.isfinite(rows.validating).sum(axis=0).tolist() == [2, 1]


def test_other_data_of_one_source_make_another_digest(paths):
    before = joint_rows((ENERGY, GAP), paths).digest
    frame = pd.read_parquet(paths.prepared(GAP))
    frame["value"] += 1e-9
    frame.to_parquet(paths.prepared(GAP), index=False)
    assert joint_rows((ENERGY, GAP), paths).digest != before
    assert joint_rows((ENERGY,), paths).digest == joint_rows((ENERGY,), paths).digest


def test_missing_source_and_one_without_validation_rows_are_refused(paths):
    with pytest.raises(DataError, match=r"stability\.parquet cannot be read: .*Run 'dvc repro prepare'"):
        joint_rows((ENERGY, "stability"), paths)
    frame = pd.read_parquet(paths.prepared(GAP)).assign(split="train")
    frame.to_parquet(paths.prepared(GAP), index=False)
    with pytest.raises(DataError, match=r"band_gap\.parquet has no validation rows"):
        joint_rows((ENERGY, GAP), paths)


@pytest.fixture
def params(tiny_params):
    return tiny_params(
        sources=[ENERGY, GAP],
        joint={"all_sources": [ENERGY, GAP]},
        joint_pretrain=RECIPE,
        budget={"ml_trials": 2, "dl_trials": 2, "seconds": 1},
    )


@pytest.fixture
def quick(monkeypatch, tensorflow):
    """Networks without XLA, whose compilation would take longer than the fit."""
    monkeypatch.setattr(pretrain, "NetworkTrainer", lambda jit, precision: NetworkTrainer())


UNITS = {ENERGY: "eV/atom", GAP: "eV"}


def test_name_of_no_joint_network_is_refused(params, paths):
    with pytest.raises(ConfigError, match=r"'other' is no joint network of the study: \['all_sources'\]"):
        pretrain_joint(params, "other", UNITS, paths, lambda line: None)


def test_saved_network_has_an_output_for_every_source_and_the_stated_errors(params, paths, quick):
    lines = []
    provenance, history = pretrain_joint(params, "all_sources", UNITS, paths, lines.append)
    folder = paths.source_model("all_sources")
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS", "history.csv", "network.keras", "provenance.json", "scaling.npy",
    ]  # fmt: skip
    network = load_network(folder / "network.keras")
    assert network.output_shape == (None, 2)
    assert load_provenance(folder) == json.loads(json.dumps(provenance))
    assert provenance["weights_sha256"] == weights_digest(network)
    assert provenance["key"] == source_key(provenance)
    assert (provenance["source"], provenance["sources"]) == ("all_sources", [ENERGY, GAP])
    assert (provenance["n_train"], provenance["n_validation"]) == (4, 3)
    assert provenance["n_train_by_source"] == {ENERGY: 2, GAP: 3}

    rows = joint_rows((ENERGY, GAP), paths)
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
    assert lines[0] == "all_sources: pretraining on 4 compositions, 2 properties, 3 epochs"
    assert lines[-1].startswith("all_sources: band_gap validation MAE ")
    assert lines[-1].endswith(" eV")


def test_validation_values_are_never_learnt(params, paths, quick):
    first, _ = pretrain_joint(params, "all_sources", UNITS, paths, lambda line: None)
    for source in (ENERGY, GAP):
        frame = pd.read_parquet(paths.prepared(source))
        frame.loc[frame["split"] == "validation", "value"] += 100.0
        frame.to_parquet(paths.prepared(source), index=False)
    second, _ = pretrain_joint(params, "all_sources", UNITS, paths, lambda line: None)
    assert second["weights_sha256"] == first["weights_sha256"]
    assert second["scaling"] == first["scaling"]
    assert second["validation_mae"] != first["validation_mae"]
    assert second["key"] != first["key"]


def test_values_of_one_source_teach_and_same_data_teach_the_same(params, paths, quick):
    first, again = (
        pretrain_joint(params, "all_sources", UNITS, paths, lambda line: None)[0] for _ in range(2)
    )
    assert first["weights_sha256"] == again["weights_sha256"]
    frame = pd.read_parquet(paths.prepared(GAP))
    frame.loc[frame["formula"] == "Si", "value"] = 12.0  # above the median, no longer below it
    frame.to_parquet(paths.prepared(GAP), index=False)
    other, _ = pretrain_joint(params, "all_sources", UNITS, paths, lambda line: None)
    assert other["weights_sha256"] != first["weights_sha256"]
    assert other["scaling"][0] == first["scaling"][0]


def test_network_learns_where_every_composition_is_known_for_one_source_only(params, tmp_path, quick):
    """Two copies of one rule on disjoint compositions: a mask that lets NaN or zeros in would not get there."""
    paths = StudyPaths("tiny", tmp_path)
    metals, others = (
        ["Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Ba", "Al", "Zn"],
        ["O", "S", "Se", "F", "Cl", "Br"],
    )
    pairs = [(m, o) for m in metals for o in others]
    for j, source in enumerate((ENERGY, GAP)):
        rows = [
            (f"{m}{o}", 10.0 * j + others.index(o), "validation" if k % 5 == 0 else "train")
            for k, (m, o) in enumerate(pairs[j::2])
        ]
        write_source(paths, source, rows)
    recipe = params.study.joint_pretrain.model_copy(update={"epochs": 40})
    longer = params.model_copy(update={"study": params.study.model_copy(update={"joint_pretrain": recipe})})
    provenance, history = pretrain_joint(longer, "all_sources", UNITS, paths, lambda line: None)
    assert np.isfinite(history["loss"]).all()
    medians = provenance["validation_mae_of_median_by_source"]
    for source, error in provenance["validation_mae_by_source"].items():
        assert error < 0.5 * medians[source]


def test_flipped_bit_in_any_file_of_a_network_is_refused_by_name(pretrained_joint, tmp_path):
    folder = shutil.copytree(pretrained_joint, tmp_path / "joint")
    network = folder / "network.keras"
    readers = {
        "network.keras": lambda: source_network(network),
        "scaling.npy": lambda: scaling_of(network),
        "provenance.json": lambda: load_provenance(folder),
    }
    files = sorted(folder.iterdir())
    assert len(files) == 5
    for path in files:
        for _ in flips(path):
            for read in (lambda: check_network(folder), readers.get(path.name)):
                if read is not None:
                    with pytest.raises(
                        ModelFormatError, match=rf"({path.name}|SHA256SUMS).* Delete .*source again"
                    ):
                        read()
    check_network(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ModelFormatError, match="lacks SHA256SUMS"):
        load_provenance(folder)
    (folder / "provenance.json").unlink()
    with pytest.raises(ModelFormatError, match="Pretrain the source"):
        load_provenance(folder)


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


def test_key_hangs_on_data_recipe_seed_and_weights_but_not_on_time(folder):
    facts = load_provenance(folder)
    assert source_key(facts) == facts["key"]
    assert source_key({**facts, "seconds": 1e6, "peak_memory": 1}) == facts["key"]
    for name in ("data_sha256", "weights_sha256", "seed", "source"):
        assert source_key({**facts, name: "other"}) != facts["key"]
    assert source_key({**facts, "recipe": {**facts["recipe"], "epochs": 3}}) != facts["key"]


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
