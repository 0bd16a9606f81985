"""What a task reads: its rows and its matrix."""

from dataclasses import replace

import made
import numpy as np
import pytest
from made import flips

from crossprop.errors import DataError, StoreError
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.features.matrices import load_combined, load_features
from crossprop.io import write_digests
from crossprop.methods import Method, Representation
from crossprop.models.portable import Network
from crossprop.paths import StudyPaths


def files_of(root):
    network = StudyPaths("tiny", root).source_model("formation_energy") / "network.keras"
    return made.files_of(root, ("formation_energy", network))


@pytest.fixture
def inputs(tmp_path, write_target):
    write_target(tmp_path, n=60, repeated=3)
    return TargetInputs(files_of(tmp_path), "published")


def test_hold_out_is_never_trained_on_nor_validated_on(inputs):
    assert (len(inputs.train), len(inputs.test)) == (51, 12)  # 48 and the 3 repeated ones; a fifth of 60
    assert set(inputs.frame["split"].iloc[inputs.test]) == {"test"}
    for train, validation in [inputs.screening(1), *inputs.folds(5, 1)]:
        assert sorted([*train, *validation]) == sorted(inputs.train)
        assert not {*train, *validation} & set(inputs.test)
        compositions = inputs.frame["composition"]
        assert not set(compositions.iloc[train]) & set(compositions.iloc[validation])


def test_auxiliary_rows_are_always_trained_on_and_never_validated_on(tmp_path, inputs):
    files = files_of(tmp_path)
    compositions = inputs.frame["composition"][inputs.train].unique()[:9]
    marked = inputs.frame["split"].mask(inputs.frame["composition"].isin(compositions), "auxiliary")
    inputs.frame.assign(split=marked).to_parquet(files.prepared)
    again = TargetInputs(files, "published")
    auxiliary = set(np.flatnonzero(marked == "auxiliary"))
    assert set(again.train) == set(inputs.train) | auxiliary
    for train, validation in [again.screening(1), *again.folds(5, 1)]:
        assert auxiliary < set(train)
        assert not auxiliary & set(validation)
        assert set(again.train) == {*train, *validation}


def test_rows_that_repeat_the_hold_out_are_known_and_strict_leaves_them_out(tmp_path, inputs):
    held_out = set(inputs.frame["composition"].iloc[inputs.test])
    repeated = inputs.frame["composition"].isin(held_out).to_numpy()
    assert repeated[inputs.train].sum() == 3
    strict = TargetInputs(files_of(tmp_path), "strict")
    for one in (inputs, strict):
        assert np.array_equal(one.repeated, repeated)
    assert sorted(strict.train) == [row for row in sorted(inputs.train) if not repeated[row]]
    held_row, train_row = inputs.test[0], strict.train[0]
    groups = [f"g{i}" for i in range(len(inputs.frame))]
    groups[train_row] = groups[held_row]
    inputs.frame.assign(group=groups).to_parquet(inputs.files.prepared)
    by_group = TargetInputs(inputs.files, "strict")
    assert np.flatnonzero(by_group.repeated).tolist() == sorted([*inputs.test, train_row])
    assert sorted({*inputs.train} - {*by_group.train}) == [train_row]


def test_matrices_are_read_or_combined_once_and_a_missing_one_is_named(tmp_path, inputs, tiny_params):
    params = tiny_params(methods=["ml", "resnet", "boost"], sources=[])
    ml, resnet, boost = enumerate_cells(params, "slme", "%", "d", {})
    tuned = replace(resnet, method=Method.RESNET_FINETUNE, source="all_sources")
    assert np.asarray(inputs.features(ml, None)).sum(axis=1) == pytest.approx(np.ones(63))
    combined = inputs.features(resnet, None)
    assert isinstance(combined, np.memmap)
    assert np.array_equal(combined, load_combined(files_of(tmp_path).features))
    assert inputs.features(boost, None) is combined
    assert inputs.features(tuned, None) is combined
    (written,) = matrices(tmp_path)
    stamp = written.stat().st_mtime_ns
    assert np.array_equal(TargetInputs(files_of(tmp_path), "published").features(resnet, None), combined)
    assert [path.stat().st_mtime_ns for path in matrices(tmp_path)] == [stamp]
    folder = tmp_path / "data/features/tiny/slme"
    attributes = np.load(folder / "physical_attributes.npy")
    np.save(folder / "physical_attributes.npy", attributes + 1)
    write_digests(folder)  # other attributes, as of another version of matminer
    again = TargetInputs(files_of(tmp_path), "published").features(resnet, None)
    assert np.array_equal(again, load_combined(folder))
    (folder / "elemental_fractions.npy").unlink()
    with pytest.raises(DataError, match="dvc repro featurize"):
        TargetInputs(files_of(tmp_path), "published").features(ml, None)


def matrices(root):
    """Files of the matrices that were computed on first use."""
    return list(files_of(root).activations.glob("*/matrix.npy"))


def test_activations_are_computed_once_and_checked(tmp_path, tiny_params, write_study, write_target):
    write_study(tmp_path, n=30)
    files, params = files_of(tmp_path), tiny_params(methods=["ml_featextr"])
    (cell,) = enumerate_cells(params, "slme", "%", "d", {"formation_energy": "f"})

    def activations():
        return np.array(TargetInputs(files, "published").features(cell, "hidden_16"))

    got = activations()
    fractions = np.asarray(load_features(files.features, Representation.ELEMENTAL_FRACTIONS))
    expected = Network.read(files.networks[0][1], layer="hidden_16").outputs(fractions)
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)
    (first,) = matrices(tmp_path)
    for _ in flips(first):
        with pytest.raises(StoreError, match=r"matrix\.npy has changed .* Delete .*hidden_16 and run again"):
            activations()
    assert np.array_equal(activations(), got)
    assert len(matrices(tmp_path)) == 1
    (files.networks[0][1].parent / "history.csv").write_text("another")
    write_digests(files.networks[0][1].parent)  # a new network
    activations()
    assert len(matrices(tmp_path)) == 2
    write_target(tmp_path, n=30, seed=99)  # other rows, though as many
    assert not np.allclose(got, activations())
