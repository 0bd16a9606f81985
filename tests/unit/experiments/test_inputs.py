"""What a task reads: its rows and its matrix."""

from __future__ import annotations

import os

import made
import numpy as np
import pytest
from made import flips

from crossprop.errors import DataError, StoreError
from crossprop.experiments.grid import enumerate_cells
from crossprop.experiments.inputs import TargetInputs
from crossprop.features.matrices import load_combined, load_features
from crossprop.methods import Method, Representation
from crossprop.models.transfer import extract_activations, load_network
from crossprop.paths import StudyPaths


def files_of(root):
    network = StudyPaths("tiny", root).source_model("formation_energy") / "network.keras"
    return made.files_of(root, ("formation_energy", network))


@pytest.fixture
def inputs(tmp_path, write_target):
    write_target(tmp_path, n=60, repeated=3)
    return TargetInputs(files_of(tmp_path), "published")


@pytest.fixture
def cells(tiny_params):
    params = tiny_params(methods=["base", "ml", "ml_featextr"])
    return {c.method: c for c in enumerate_cells(params, "slme", "%", "d", {"formation_energy": "f"})}


def test_rows_to_learn_from_and_to_measure_on_are_disjoint(inputs):
    assert (len(inputs.train), len(inputs.test)) == (51, 12)  # 48 and the 3 repeated ones; a fifth of 60
    assert not set(inputs.train) & set(inputs.test)
    assert set(inputs.frame["split"].iloc[inputs.test]) == {"test"}


def test_hold_out_is_never_trained_on_nor_validated_on(inputs):
    splits = [inputs.screening(1), *inputs.folds(5, 1)]
    assert len(splits) == 6
    for train, validation in splits:
        assert sorted([*train, *validation]) == sorted(inputs.train)
        assert not {*train, *validation} & set(inputs.test)
        compositions = inputs.frame["composition"]
        assert not set(compositions.iloc[train]) & set(compositions.iloc[validation])


def test_scratch_cell_reads_its_matrix_row_by_row_and_a_missing_one_is_named(tmp_path, inputs, cells):
    matrix = TargetInputs(files_of(tmp_path), "published").features(cells[Method.ML], None)
    assert matrix.shape == (63, 86)
    assert np.asarray(matrix).sum(axis=1) == pytest.approx(np.ones(63))
    (tmp_path / "data/features/tiny/slme/elemental_fractions.npy").unlink()
    with pytest.raises(DataError, match="dvc repro featurize"):
        inputs.features(cells[Method.ML], None)


@pytest.fixture
def with_source(tmp_path, write_study):
    write_study(tmp_path, n=30)
    return tmp_path


def layer_of(root, cells, layer="hidden_16"):
    return np.array(TargetInputs(files_of(root), "published").features(cells[Method.ML_FEATEXTR], layer))


def matrices(root):
    """Files of the matrices that were computed on first use."""
    return list(files_of(root).activations.glob("*/matrix.npy"))


def test_activations_are_the_networks_and_computed_once_for_rows_and_network(
    with_source, cells, write_target
):
    got = layer_of(with_source, cells)
    files = files_of(with_source)
    fractions = np.asarray(load_features(files.features, Representation.ELEMENTAL_FRACTIONS))
    expected = extract_activations(load_network(files.networks[0][1]), fractions, ["hidden_16"])["hidden_16"]
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)
    (first,) = matrices(with_source)
    written = first.stat().st_mtime_ns
    layer_of(with_source, cells)
    assert first.stat().st_mtime_ns == written
    os.utime(files.networks[0][1])  # a new network
    layer_of(with_source, cells)
    assert len(matrices(with_source)) == 2
    write_target(with_source, n=30, seed=99)  # other rows, though as many
    after = layer_of(with_source, cells)
    assert got.shape == after.shape
    assert not np.allclose(got, after)


def test_flipped_bit_in_a_computed_matrix_is_refused_by_name(with_source, cells):
    layer_of(with_source, cells)
    (path,) = matrices(with_source)
    for _ in flips(path):
        with pytest.raises(StoreError, match=r"matrix\.npy has changed .* Delete .*hidden_16 and run again"):
            layer_of(with_source, cells)
    layer_of(with_source, cells)


def test_rows_that_repeat_the_hold_out_are_known_under_both_protocols(tmp_path, inputs):
    held_out = set(inputs.frame["composition"].iloc[inputs.test])
    repeated = inputs.frame["composition"].isin(held_out).to_numpy()
    assert np.array_equal(inputs.repeated, repeated)
    assert repeated[inputs.test].all()
    assert repeated[inputs.train].sum() == 3
    strict = TargetInputs(files_of(tmp_path), "strict")
    assert np.array_equal(strict.repeated, repeated)
    assert len(strict.train) == 48
    assert not repeated[strict.train].any()


def test_combined_matrix_is_written_once_and_mapped_by_all(tmp_path, inputs, tiny_params):
    params = tiny_params(methods=["resnet", "boost"], sources=[])
    resnet, boost = enumerate_cells(params, "slme", "%", "d", {})
    combined = inputs.features(resnet, None)
    assert isinstance(combined, np.memmap)
    assert np.array_equal(combined, load_combined(files_of(tmp_path).features))
    assert np.array_equal(inputs.features(boost, None), combined[:, 86:])
    (written,) = matrices(tmp_path)
    stamp = written.stat().st_mtime_ns
    again = TargetInputs(files_of(tmp_path), "published")
    assert np.array_equal(again.features(resnet, None), combined)
    assert inputs.features(resnet, None) is combined
    assert [path.stat().st_mtime_ns for path in matrices(tmp_path)] == [stamp]
