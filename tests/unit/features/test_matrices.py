import errno
import os

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import ConfigError, DataError, StoreError, UnknownElementError
from crossprop.features import matrices
from crossprop.features.magpie import ATTRIBUTE_NAMES, physical_attributes
from crossprop.features.matrices import load_combined, load_features, write_features
from crossprop.methods import Representation

EF, PA = Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES


@pytest.fixture
def frame():
    # an index that is not 0, 1, 2: rows are taken by position
    return pd.DataFrame({"formula": ["NaCl", "Fe2O3", "MoS2"], "value": [1.0, 2.0, 3.0]}, index=[7, 3, 5])


def test_written_matrices_come_back_row_by_row(frame, tmp_path):
    files = write_features(frame, tmp_path / "new" / "folder", [EF, PA])
    assert [f.name for f in files] == ["elemental_fractions.npy", "physical_attributes.npy"]
    fractions = fraction_matrix(["NaCl", "Fe2O3", "MoS2"])
    loaded_ef = load_features(tmp_path / "new" / "folder", EF)
    loaded_pa = load_features(tmp_path / "new" / "folder", PA, mmap=False)
    assert loaded_ef.dtype == loaded_pa.dtype == np.float32
    np.testing.assert_array_equal(loaded_ef, fractions.astype(np.float32))
    np.testing.assert_array_equal(loaded_pa, physical_attributes(fractions).astype(np.float32))


def test_only_the_representations_asked_for_are_written(frame, tmp_path):
    write_features(frame, tmp_path, [EF])
    assert [f.name for f in tmp_path.iterdir()] == ["elemental_fractions.npy"]


def test_same_rows_give_the_same_bytes(frame, tmp_path):
    first = write_features(frame, tmp_path / "a", [EF, PA])
    second = write_features(frame, tmp_path / "b", [EF, PA])
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]


def test_mapped_matrix_is_read_only(frame, tmp_path):
    write_features(frame, tmp_path, [EF])
    loaded = load_features(tmp_path, EF)
    assert isinstance(loaded, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded[0, 0] = 1.0


def test_combined_matrix_is_the_fractions_beside_the_attributes(frame, tmp_path):
    write_features(frame, tmp_path, [EF, PA])
    combined = load_combined(tmp_path)
    assert (combined.shape, combined.dtype) == ((3, 86 + len(ATTRIBUTE_NAMES)), np.float32)
    np.testing.assert_array_equal(combined[:, :86], load_features(tmp_path, EF))
    np.testing.assert_array_equal(combined[:, 86:], load_features(tmp_path, PA))


@pytest.mark.parametrize("missing", [EF, PA])
def test_combined_matrix_needs_both(frame, tmp_path, missing):
    write_features(frame, tmp_path, [r for r in (EF, PA) if r is not missing])
    with pytest.raises(DataError, match=rf"No feature matrix at .*{missing}\.npy.*dvc repro featurize"):
        load_combined(tmp_path)


@pytest.mark.parametrize("representation", [Representation.COMBINED, Representation.PREDICTED_SOURCES])
def test_inputs_of_own_methods_have_no_matrix_of_their_own(frame, tmp_path, representation):
    with pytest.raises(ConfigError, match=f"'{representation}' has no matrix of its own"):
        write_features(frame, tmp_path, [representation])
    with pytest.raises(ConfigError, match="has no matrix of its own"):
        load_features(tmp_path, representation)


def test_activations_have_no_matrix_of_their_own(frame, tmp_path):
    with pytest.raises(ConfigError, match="source network"):
        write_features(frame, tmp_path, [EF, Representation.ACTIVATIONS])
    with pytest.raises(ConfigError, match="source network"):
        load_features(tmp_path, Representation.ACTIVATIONS)
    assert not list(tmp_path.iterdir())


def test_empty_frame_is_refused(frame, tmp_path):
    with pytest.raises(DataError, match="hold no row"):
        write_features(frame.iloc[:0], tmp_path, [EF])


def test_frame_without_formulas_is_refused_with_its_columns(frame, tmp_path):
    with pytest.raises(DataError, match=r"no column 'formula'.*'value'"):
        write_features(frame[["value"]], tmp_path, [EF])


def test_unknown_element_leaves_no_file_behind(frame, tmp_path):
    frame.loc[3, "formula"] = "XeAr"
    with pytest.raises(UnknownElementError, match=r"row 1 of prepared\.parquet"):
        write_features(frame, tmp_path, [EF, PA], where="prepared.parquet")
    assert not list(tmp_path.iterdir())


def test_no_nan_leaves_this_layer(frame, tmp_path, monkeypatch):
    def with_a_gap(fractions):
        attributes = physical_attributes(fractions)
        attributes[1, 4] = np.nan
        return attributes

    monkeypatch.setattr(matrices, "physical_attributes", with_a_gap)
    with pytest.raises(DataError, match=f"'{ATTRIBUTE_NAMES[4]}' of row 1"):
        write_features(frame, tmp_path, [EF, PA])
    assert not list(tmp_path.iterdir())


def test_failed_write_keeps_the_old_matrix_and_no_scraps(frame, tmp_path, monkeypatch):
    (old,) = write_features(frame, tmp_path, [EF])
    before = old.read_bytes()

    def disk_full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(StoreError, match="No space left on device"):
        write_features(frame.iloc[:1], tmp_path, [EF])
    assert old.read_bytes() == before
    assert list(tmp_path.iterdir()) == [old]


def test_absent_matrix_is_named(tmp_path):
    with pytest.raises(DataError, match=r"No feature matrix at .*physical_attributes\.npy"):
        load_features(tmp_path, PA)


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kept", [0, 20, 200])
def test_truncated_matrix_is_refused(frame, tmp_path, kept, mmap):
    (file,) = write_features(frame, tmp_path, [EF])
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match="cannot be read"):
        load_features(tmp_path, EF, mmap=mmap)


@pytest.mark.parametrize(
    "content", [np.zeros((3, 86)), np.zeros((3, 145), np.float32), np.zeros(86, np.float32)]
)
def test_matrix_of_another_kind_is_refused(tmp_path, content):
    np.save(tmp_path / "elemental_fractions.npy", content)
    with pytest.raises(DataError, match="not a float32 matrix"):
        load_features(tmp_path, EF)


def test_pickled_array_is_never_unpickled(tmp_path):
    np.save(tmp_path / "elemental_fractions.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        load_features(tmp_path, EF, mmap=False)
