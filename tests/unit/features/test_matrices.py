"""Feature matrices on disk, and which of them a study needs."""

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import ConfigError, DataError, UnknownElementError
from crossprop.features import matrices
from crossprop.features.magpie import ATTRIBUTE_NAMES, physical_attributes
from crossprop.methods import Representation

EF, PA = Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES


@pytest.fixture
def frame():
    # an index that is not 0, 1, 2: rows are taken by position
    return pd.DataFrame({"formula": ["NaCl", "Fe2O3", "MoS2"], "value": [1.0, 2.0, 3.0]}, index=[7, 3, 5])


def test_written_matrices_come_back_row_by_row_and_read_only(frame, tmp_path):
    folder = tmp_path / "new" / "folder"
    files = matrices.write_features(frame, folder, [EF, PA])
    assert [f.name for f in files] == ["elemental_fractions.npy", "physical_attributes.npy"]
    again = matrices.write_features(frame, tmp_path, [EF, PA])
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]
    fractions = fraction_matrix(["NaCl", "Fe2O3", "MoS2"])
    loaded_ef, loaded_pa = matrices.load_features(folder, EF), matrices.load_features(folder, PA)
    np.testing.assert_array_equal(loaded_ef, fractions.astype(np.float32))
    np.testing.assert_array_equal(loaded_pa, physical_attributes(fractions).astype(np.float32))
    assert isinstance(loaded_ef, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        loaded_ef[0, 0] = 1.0
    combined = matrices.load_combined(folder)
    assert (combined.shape, combined.dtype) == ((3, 86 + len(ATTRIBUTE_NAMES)), np.float32)
    np.testing.assert_array_equal(combined, np.concatenate([loaded_ef, loaded_pa], axis=1))


def test_other_representations_have_no_matrix_of_their_own(frame, tmp_path):
    with pytest.raises(ConfigError, match="'combined' has no matrix of its own"):
        matrices.write_features(frame, tmp_path, [EF, Representation.COMBINED])
    with pytest.raises(ConfigError, match="has no matrix of its own"):
        matrices.load_features(tmp_path, Representation.COMBINED)
    assert not list(tmp_path.iterdir())


def test_row_without_a_usable_formula_is_refused_and_leaves_no_file(frame, tmp_path):
    spoilt = frame.assign(formula=["KI", "XeAr", "KI"])
    with pytest.raises(UnknownElementError, match="row 1 of prepared"):
        matrices.write_features(spoilt, tmp_path, [EF, PA], where="prepared.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [0, 4, 9, "truncated", "unlisted"])
def test_damaged_matrix_is_refused_by_name(frame, tmp_path, damage):
    file, other = matrices.write_features(frame, tmp_path, [EF, PA])
    content = bytearray(file.read_bytes())
    if isinstance(damage, int):
        content[damage * (len(content) - 1) // 9] ^= 1  # one bit
    file.write_bytes(content[: {"truncated": 200, "emptied": 0}.get(damage, len(content))])
    if damage == "unlisted":
        (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {other.name}\n")
    for read in (lambda: matrices.load_features(tmp_path, EF), lambda: matrices.check_features(tmp_path)):
        with pytest.raises(DataError, match=r"(elemental|physical)\S+npy.* Delete .*dvc repro featurize"):
            read()


def test_target_has_both_matrices_and_a_source_attributes_where_it_is_learnt_jointly(tiny_params):
    recipe = {"epochs": 1, "batch_size": 8, "learning_rate": 0.001}
    joint = {"joint": {"both": ["band_gap"]}, "joint_pretrain": recipe}
    study = tiny_params(sources=["formation_energy", "band_gap"], methods=["base", "ml"], **joint).study
    assert study.representations == (EF,)
    assert matrices.matrices_of(study, "slme") == (EF, PA)
    assert matrices.matrices_of(study, "band_gap") == (EF, PA)
    assert matrices.matrices_of(study, "formation_energy") == (EF,)
