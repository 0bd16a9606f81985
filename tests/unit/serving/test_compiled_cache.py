"""The compiled form on disk: found again, made again when damaged, made once by many, and free of heavy imports."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from made_ensembles import FRACTIONS, fitted, write_blend, write_ensemble

from crossprop.errors import StoreError
from crossprop.inference import compiled
from crossprop.inference.compiled import cache_folder, content_key, entry, is_whole, load_compiled

SOURCES = Path(compiled.__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An ensemble of trees and a machine."""
    folder = tmp_path_factory.mktemp("made") / "model"
    members = [
        fitted("extra_trees", "physical_attributes", 1, n_estimators=8),
        fitted("svr", "physical_attributes", 2),
    ]
    return write_ensemble(folder, members, "physical_attributes")


@pytest.fixture
def builds(monkeypatch):
    """Counts how often something is compiled."""
    made = []
    original = compiled.build

    def counted(folder, destination):
        made.append(destination)
        original(folder, destination)

    monkeypatch.setattr(compiled, "build", counted)
    return made


def entry_of(cache):
    (found,) = [path for path in cache.iterdir() if path.is_dir()]
    return found


def test_second_load_finds_what_the_first_one_made(model, tmp_path, builds):
    first = load_compiled(model, cache=tmp_path).predict(FRACTIONS)
    assert np.array_equal(load_compiled(model, cache=tmp_path).predict(FRACTIONS), first)
    assert len(builds) == 1
    assert {path.suffix for path in entry_of(tmp_path).iterdir()} == {".onnx", ".npy", ".npz", ".json"}


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "missing", "no list", "strange list", "empty list"]
)
def test_damaged_entry_is_made_again(model, tmp_path, builds, damage):
    expected = load_compiled(model, cache=tmp_path).predict(FRACTIONS)
    place = entry_of(tmp_path)
    path = next(place.glob("*.nodes.npy"))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-8])
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    elif damage == "missing":
        path.unlink()
    else:
        text = {"no list": None, "strange list": "[3]", "empty list": "{}"}[damage]
        (place / "checksums.json").unlink()
        if text:
            (place / "checksums.json").write_text(text)
    assert not is_whole(place)
    assert np.array_equal(load_compiled(model, cache=tmp_path).predict(FRACTIONS), expected)
    assert len(builds) == 2
    assert is_whole(entry_of(tmp_path))


def test_another_content_of_any_file_is_another_entry(model, tmp_path):
    copy = tmp_path / "model"
    import shutil

    shutil.copytree(model, copy)
    assert content_key(copy) == content_key(model)
    before = content_key(copy)
    note = copy / "fold_00" / "member.json"
    note.write_text(note.read_text() + " ")
    assert content_key(copy) != before


def test_folder_of_the_cache_is_the_given_one_then_the_environments_then_the_projects(tmp_path, monkeypatch):
    monkeypatch.delenv("CROSSPROP_CACHE", raising=False)
    assert cache_folder() == Path(".crossprop/compiled")
    monkeypatch.setenv("CROSSPROP_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cache_folder(tmp_path / "other") == tmp_path / "other"


def test_threads_that_want_the_same_model_make_it_once(model, tmp_path, builds):
    threads = [
        threading.Thread(target=load_compiled, args=(model,), kwargs={"cache": tmp_path}) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1


def python(code, **environment):
    kept = dict(os.environ) | {"PYTHONPATH": str(SOURCES)} | environment
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=kept, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_processes_that_want_the_same_model_do_not_collide(model, tmp_path):
    code = (
        "import sys; from crossprop.inference.compiled import load_compiled; import numpy as np\n"
        f"print(load_compiled({str(model)!r}, cache={str(tmp_path)!r}).predict(np.eye(86)).sum())"
    )
    kept = dict(os.environ) | {"PYTHONPATH": str(SOURCES)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=kept)
        for _ in range(3)
    ]
    answers = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1
    assert is_whole(entry_of(tmp_path))


def test_with_the_entry_at_hand_nothing_heavy_is_imported(tmp_path, tensorflow):
    for name, kind, representation in (
        ("part_00", "elemnet", "activations"),
        ("part_01", "hist_gradient_boosting", "predicted_sources"),
        ("part_02", "svr", "physical_attributes"),
        ("part_03", "ridge", "elemental_fractions"),
    ):
        write_ensemble(tmp_path / "model" / name, [fitted(kind, representation, 1)], representation)
    folder = write_blend(tmp_path / "model", {f"part_0{i}": [0.25] for i in range(4)})
    expected = load_compiled(folder, cache=tmp_path / "cache").predict(FRACTIONS[:3])
    heavy = (
        "tensorflow",
        "keras",
        "jax",
        "sklearn",
        "skl2onnx",
        "onnx",
        "skops",
        "matminer",
        "pymatgen",
        "mlflow",
    )
    code = (
        "import sys, numpy as np; from crossprop.inference.compiled import load_compiled\n"
        "from crossprop.data.compositions import parse_formulas\n"
        f"m = load_compiled({str(folder)!r}, cache={str(tmp_path / 'cache')!r})\n"
        f"print(m.predict(np.array({FRACTIONS[:3].tolist()})).tolist())\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    values, imported = python(code).splitlines()
    assert imported == "[]"
    assert np.array_equal(np.array(eval(values)), expected)


def test_kill_in_the_middle_of_compiling_leaves_no_entry(model, tmp_path):
    code = (
        "import os; from crossprop.inference import compiled\n"
        "compiled.build = lambda folder, draft: (draft.joinpath('half.npy').write_bytes(b'x'), os._exit(9))\n"
        f"compiled.load_compiled({str(model)!r}, cache={str(tmp_path)!r})"
    )
    kept = dict(os.environ) | {"PYTHONPATH": str(SOURCES)}
    assert subprocess.run([sys.executable, "-c", code], env=kept, check=False).returncode == 9
    assert not is_whole(tmp_path / content_key(model))
    assert np.isfinite(load_compiled(model, cache=tmp_path).predict(FRACTIONS)).all()


def test_cache_that_cannot_be_written_says_what_to_do(model, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="CROSSPROP_CACHE"):
        load_compiled(model, cache=tmp_path / "file" / "cache")


def test_what_nobody_has_loaded_for_a_month_is_removed(model, tmp_path):
    month, day = 31 * 24 * 3600, 2 * 24 * 3600
    for name, age in (("old", month), ("recent", day), ("half.tmp", day)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checksums.json").write_text("{}")
        os.utime(tmp_path / name / "checksums.json", (time.time() - age,) * 2)
    load_compiled(model, cache=tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"recent", content_key(model)}


def test_loading_marks_an_entry_as_used(model, tmp_path):
    load_compiled(model, cache=tmp_path)
    mark = entry_of(tmp_path) / "checksums.json"
    os.utime(mark, (0, 0))
    load_compiled(model, cache=tmp_path)
    assert time.time() - mark.stat().st_mtime < 60


def test_failed_build_leaves_nothing(model, tmp_path):
    def fails(folder, destination):
        (destination / "half.npy").write_bytes(b"x")
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        entry(model, fails, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_files_are_read_through_once_whether_or_not_another_process_would_compile(
    model, tmp_path, monkeypatch
):
    read = []
    key = compiled.content_key
    monkeypatch.setattr(compiled, "content_key", lambda folder: (read.append(folder), key(folder))[1])
    apart = []
    load_compiled(model, cache=tmp_path, compile_apart=lambda: apart.append(model))
    load_compiled(model, cache=tmp_path, compile_apart=lambda: apart.append(model))
    assert read == [model, model]
    assert apart == [model], "what is there already is not compiled apart"
