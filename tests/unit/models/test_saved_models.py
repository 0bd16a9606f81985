"""Fitted models and ensembles on disk: they come back as they were, or are refused by name."""

import json
import subprocess
import zipfile

import numpy as np
import pytest
from made_ensembles import CALIBRATED, fitted, write_blend, write_ensemble, write_info
from made_evidence import made_evidence
from sklearn.neighbors import KNeighborsRegressor

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.inference.predictor import ServedModel
from crossprop.io import write_digests
from crossprop.models.fitted import FittedModel
from crossprop.models.portable import standardised
from crossprop.models.saved import load_predictor
from crossprop.models.target_transform import TargetTransform
from crossprop.training.trainer import fit_base, fit_regressor
from crossprop.uncertainty.evidence import write_evidence

FORMULAS = ["NaCl", "MgO", "Fe2O3", "GaAs", "TiO2", "KBr", "LiF", "CaO", "ZnS", "SiC"]
X = fraction_matrix(FORMULAS).astype(np.float32)
Y = np.array([25.0, 160.0, 200.0, 75.0, 210.0, 15.0, 70.0, 110.0, 75.0, 220.0])


def test_base_predicts_its_mean_and_survives(tmp_path):
    fit_base(Y).save(tmp_path)
    loaded = FittedModel.load(tmp_path)
    assert loaded.predict(X) == pytest.approx(np.full(10, 116.0))  # 1160 / 10
    assert loaded.transform is None
    with pytest.raises(ShapeMismatchError, match=r"shape \(86,\); \(n_samples, n_features\) is needed"):
        loaded.predict(X[0])
    scaling = np.array([[1.0, 0.0], [2.0, 1.0]], np.float32)
    scaled = standardised(np.array([[3.0, 0.5], [1000.0, -1000.0]]), scaling)
    assert scaled.tolist() == [[1.0, 0.5], [10.0, -10.0]]  # cut at ten deviations


def test_damaged_note_is_refused_with_the_folder(tmp_path):
    for content, reason in (
        (None, "No such file"),
        ('{"kind": "base", "transform": null}', "standardised"),
        ('{"kind": "regressor", "transform": null, "standardised": true}', "scaling.npy"),
        ('{"kind": "pickle", "transform": null, "standardised": false}', "names the kind 'pickle'"),
    ):
        if content is not None:
            (tmp_path / "member.json").write_text(content, encoding="utf-8")
        with pytest.raises(ModelFormatError, match=reason) as caught:
            FittedModel.load(tmp_path)
        assert str(tmp_path) in str(caught.value)


class Stranger(KNeighborsRegressor):
    """A class of neither scikit-learn nor NumPy."""


def test_regressor_of_a_foreign_type_or_with_one_slipped_in_is_refused_before_anything_is_built(tmp_path):
    FittedModel("regressor", Stranger().fit(X, Y), TargetTransform.fit(Y)).save(tmp_path)
    with pytest.raises(ModelFormatError, match=r"holds \S+\.Stranger, which crossprop does not trust"):
        FittedModel.load(tmp_path)
    # somebody edits the schema of a good file: a call of `os.system` stands in place of an attribute
    fit_regressor("k_neighbors", {}, X, Y, seed=1).save(tmp_path)
    path = tmp_path / "regressor.skops"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(entries["schema.json"])
    schema["content"]["content"]["memory"] = {
        "__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "__id__": 1
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (entries | {"schema.json": json.dumps(schema).encode()}).items():
            archive.writestr(name, content)
    with pytest.raises(ModelFormatError, match=r"os\.system"):
        FittedModel.load(tmp_path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ModelFormatError):
        FittedModel.load(tmp_path)


def test_arrays_that_hold_python_objects_are_refused(tmp_path):
    fit_regressor("ridge", {}, X, Y, seed=1).save(tmp_path)
    with np.load(tmp_path / "member.npz") as kept:
        arrays = dict(kept) | {"intercept": np.array([print], dtype=object)}
    np.savez(tmp_path / "member.npz", **arrays)
    with pytest.raises(ModelFormatError, match="allow_pickle=False"):
        FittedModel.load(tmp_path)


@pytest.fixture
def ensemble(tmp_path):
    return write_ensemble(tmp_path, [fit_base(Y), fit_base(Y)], "elemental_fractions")


def test_malformed_description_is_refused_by_entry(ensemble):
    for changes, reason in (
        ({"format": 99}, r"model\.json: format is 99, but: .*run the study or the fit again"),
        ({"members": []}, "lists no members"),
        ({"members": ["fold_07"]}, "fold_07 holds no complete model"),
        ({"members": ["../fold_00"]}, r"members\.0 is '\.\./fold_00'"),
        ({"seen_elements": None}, "seen_elements is None"),
        ({"method": "magic"}, "method is 'magic'"),
        ({"interval": None}, "interval is None"),
        ({"interval": {"coverage": 0.9}}, r"interval\.method is missing"),
        ({"interval": CALIBRATED["interval"] | {"scale": -1.0}}, r"interval\.scale is -1\.0"),
        ({"interval": CALIBRATED["interval"] | {"scale": float("nan")}}, r"interval\.scale is nan"),
        ({"domain": {"quantile": 0.98, "radius": "far"}}, r"domain\.radius is 'far'"),
        ({"parts": {"../part_00": [1.0]}, "members": None}, r"parts\."),
    ):
        given = {"representation": "elemental_fractions", "layer": None, "members": ["fold_00", "fold_01"]}
        write_info(ensemble, **given | changes)
        with pytest.raises(ModelFormatError, match=reason):
            load_predictor(ensemble)


def test_unreadable_description_and_a_link_out_of_the_folder_are_refused(ensemble, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "fold_01"
    (ensemble / "fold_01").rename(elsewhere)
    (ensemble / "fold_01").symlink_to(elsewhere)
    with pytest.raises(ModelFormatError, match="outside of the model's folder"):
        load_predictor(ensemble)
    for content, message in (("[1, 2]", "valid dictionary"), ('{"format": 3', r"no readable model\.json")):
        (ensemble / "model.json").write_text(content, encoding="utf-8")
        with pytest.raises(ModelFormatError, match=message):
            load_predictor(ensemble)


@pytest.mark.parametrize(
    ("representation", "damage", "message"),
    [
        ("combined_sources", "scaling.npy", r"scaling\.npy cannot be read: .*Register or pull"),
        ("activations", "source.keras", r"source\.keras cannot be read"),
        ("activations", None, "no layer 'hidden_99'"),
    ],
)
def test_source_that_lacks_a_part_is_refused(tmp_path, tensorflow, representation, damage, message):
    folder = write_ensemble(tmp_path, [fitted("ridge", representation, 1)], representation)
    if damage is None:
        write_info(folder, representation=representation, layer="hidden_99", members=["fold_00"])
    else:
        (folder / damage).write_bytes(b"\x93NUMPY")
        write_digests(folder)
    with pytest.raises(ModelFormatError, match=message):
        load_predictor(folder)


def test_blend_weighs_every_fold_and_is_refused_if_its_parts_do_not_fit(tmp_path):
    for name, values in (("part_00", (10.0, 20.0)), ("part_01", (100.0, 200.0))):
        members = [fit_base(np.array([value])) for value in values]
        write_ensemble(tmp_path / name, members, "elemental_fractions")
    blend = write_blend(tmp_path, {"part_00": [0.5, 1.0], "part_01": [0.5, 0.0]})
    assert load_predictor(blend).predict_members(np.eye(86)[:2]).tolist() == [[55.0] * 2, [20.0] * 2]
    for parts, message in (
        ({"part_00": [0.5, 0.5], "part_01": [0.5, 0.5, 0.5]}, "parts and weights do not match"),
        ({"part_00": [0.5, 0.5], "part_07": [0.5, 0.5]}, r"part_07 holds no readable model\.json"),
        ({"part_00": [0.0, 0.0]}, "all weights are zero"),
    ):
        write_info(blend, method="blend", parts=parts)
        with pytest.raises(ModelFormatError, match=message):
            load_predictor(blend)


def test_flipped_bit_in_any_file_is_refused_by_its_name(tmp_path, tensorflow):
    sealed = tmp_path / "model"  # a complete one: a blend with evidence, trees, networks, and files of every kind
    for name, kind, representation in (
        ("part_00", "hist_gradient_boosting", "combined_sources"),
        ("part_01", "resnet", "combined"),
        ("part_02", "k_neighbors", "physical_attributes"),
    ):
        write_ensemble(sealed / name, [fitted(kind, representation, 1)], representation)
    write_blend(sealed, {f"part_0{i}": [0.3] for i in range(3)})
    write_evidence(sealed, made_evidence())
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=sealed, check=False)
    assert done.returncode == 0
    files = [path for path in sealed.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {"", ".json", ".keras", ".npy", ".npz", ".parquet", ".skops"}
    for path in files:
        original = path.read_bytes()
        places = np.linspace(0, len(original) - 1, 50 if path.name == "SHA256SUMS" else 10).astype(int)
        for place in places:
            path.write_bytes(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :])
            with pytest.raises(ModelFormatError, match=rf"{path.name}|SHA256SUMS"):
                ServedModel.load(sealed)
        path.write_bytes(original)
    (sealed / "notes.txt").write_text("a file that was added later")
    ServedModel.load(sealed)


def test_list_of_digests_that_is_damaged_is_refused(ensemble):
    path = ensemble / "SHA256SUMS"
    text = path.read_text()
    for changed, message in (
        (text[:-1], "no list of digests"),
        (text + "0" * 64 + "  gone.npy\n", r"gone\.npy cannot be read"),
        (text * 2, "no list of digests"),
        (None, "lacks SHA256SUMS"),
    ):
        path.unlink()
        if changed is not None:
            path.write_text(changed)
        with pytest.raises(ModelFormatError, match=message):
            load_predictor(ensemble)
