"""Adding a file: what lies in the project afterwards, and that a failure leaves it as it was."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pandas as pd
import pytest

from crossprop.data.catalog import load_catalog
from crossprop.data.download import blob_id, fetch_files
from crossprop.data.prepare import prepare_study, prepare_target
from crossprop.data.sources import prepare_source
from crossprop.data.user_rows import read_own_file
from crossprop.errors import DataError, OwnFileError
from crossprop.estimator import add
from crossprop.estimator.add import NewProperty, add_data, held_out_rows, refuse_too_few, remove_data

NEW = NewProperty("strength", "MPa", "Strength, of ours")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder, and beside it a file of 60 good rows and a bad one."""
    monkeypatch.delenv("CROSSPROP_CATALOG", raising=False)
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    write(tmp_path / "mine.csv", [*(f"Fe{i}O,{i}.25" for i in range(1, 61)), "Foo,1"])
    return root


def write(path, lines):
    path.write_text("formula,strength\n" + "\n".join(lines) + "\n")
    return path


def put(path, new=NEW, **options):
    table = read_own_file(path, target="strength")
    return add_data(path, table, held_out_rows(path, table), new, **options)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_file_becomes_a_property_that_can_be_prepared(project):
    path = project.parent / "mine.csv"
    put(path)
    entry = load_catalog().property("strength")
    assert (entry.unit, entry.rows, entry.is_own) == ("MPa", 60, True)
    assert f"blob {blob_id(path)}" in entry.notes[0]
    fetch_files(entry.files, project / "raw")
    frame = prepare_target(load_catalog(), "strength", project / "raw").frame
    given = {r["formula"]: float(r["strength"]) for r in csv.DictReader(path.open()) if r["formula"] != "Foo"}
    assert dict(zip(frame["formula"], frame["value"], strict=True)) == given
    assert (frame["split"] == "test").sum() == 15
    assert not set(frame.loc[frame["split"] == "test", "composition"]) & set(
        frame.loc[frame["split"] == "train", "composition"]
    )


def test_the_file_itself_and_what_was_dropped_are_kept(project):
    path = project.parent / "mine.csv"
    put(path)
    assert (project / "own" / "strength" / "original.csv").read_bytes() == path.read_bytes()
    dropped = list(csv.DictReader((project / "own" / "strength" / "dropped.csv").open()))
    assert [(row["line"], row["kind"]) for row in dropped] == [("62", "formula")]


def test_the_same_file_gives_the_same_bytes(project):
    put(project.parent / "mine.csv")
    before = contents(project / "own")
    put(project.parent / "mine.csv", replace=True)
    assert contents(project / "own") == before


def test_the_kept_file_itself_can_be_added_again(project):
    put(project.parent / "mine.csv")
    before = contents(project / "own" / "strength")
    put(project / "own" / "strength" / "original.csv", replace=True)
    assert contents(project / "own" / "strength") == before
    assert not list((project / "own").glob(".*"))


def test_a_name_that_is_taken_is_refused_unless_it_is_to_be_replaced(project):
    put(project.parent / "mine.csv")
    before = contents(project / "own")
    with pytest.raises(OwnFileError, match="--replace"):
        put(project.parent / "mine.csv")
    assert contents(project / "own") == before


def test_a_failure_leaves_what_was_there(project, monkeypatch):
    put(project.parent / "mine.csv")
    before = contents(project / "own")
    write(project.parent / "other.csv", [f"Ni{i}O,{i}" for i in range(1, 31)])

    def refuse(*arguments):
        raise OwnFileError("DVC is busy")

    monkeypatch.setattr(add, "track", refuse)
    monkeypatch.setattr(add, "is_tracked_place", lambda *arguments: True)
    with pytest.raises(OwnFileError, match="busy"):
        put(project.parent / "other.csv", replace=True)
    assert contents(project / "own") == before
    with pytest.raises(OwnFileError, match="busy"):
        put(project.parent / "other.csv", NewProperty("fresh", "1", "d"))
    assert contents(project / "own") == before


def test_a_full_disk_leaves_nothing_behind(project, monkeypatch):
    put(project.parent / "mine.csv")
    before = contents(project / "own")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(add.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        put(project.parent / "mine.csv", replace=True)
    assert contents(project / "own") == before


def test_what_is_removed_is_gone_and_the_rest_stays(project):
    for key in ("strength", "other"):
        put(project.parent / "mine.csv", NewProperty(key, "MPa", "d"))
    remove_data("strength")
    assert "strength" not in load_catalog().properties
    assert not (project / "own" / "strength").exists()
    assert (project / "own" / "other" / "train.csv").is_file()
    with pytest.raises(DataError, match="yours are: other"):
        remove_data("strength")


@pytest.mark.parametrize(
    "lines", [[f"Fe{i}O,{i}" for i in range(1, 20)], [f"Fe{i % 14 + 1}O,{i}" for i in range(40)]]
)
def test_too_few_rows_or_compositions_are_refused_with_the_reason(project, lines):
    path = write(project.parent / "few.csv", lines)
    with pytest.raises(OwnFileError, match="at least 20 rows of 15 different ones are needed"):
        refuse_too_few(path, read_own_file(path, target="strength"))


def test_twenty_rows_are_enough(project):
    path = write(project.parent / "few.csv", [f"Fe{i}O,{i}" for i in range(1, 21)])
    table = read_own_file(path, target="strength")
    refuse_too_few(path, table)
    assert held_out_rows(path, table).sum() == 5


def test_values_that_are_all_the_same_are_refused(project):
    path = write(project.parent / "flat.csv", [f"Fe{i}O,3" for i in range(1, 31)])
    with pytest.raises(OwnFileError, match="a constant"):
        refuse_too_few(path, read_own_file(path, target="strength"))


def test_a_split_column_decides_and_has_to_leave_both_sides(project):
    lines = [f"Fe{i}O,{i},{'test' if i > 25 else 'train'}" for i in range(1, 31)]
    path = project.parent / "split.csv"
    path.write_text("formula,strength,set\n" + "\n".join(lines) + "\n")
    table = read_own_file(path, target="strength", split_column="set")
    assert held_out_rows(path, table).tolist() == [False] * 25 + [True] * 5
    path.write_text(
        "formula,strength,set\n" + "\n".join(line.replace("test", "train") for line in lines) + "\n"
    )
    with pytest.raises(OwnFileError, match="every usable row a training row"):
        held_out_rows(path, read_own_file(path, target="strength", split_column="set"))


def test_a_study_frees_its_sources_of_own_compositions_and_own_data_can_be_a_source(project):
    put(project.parent / "mine.csv")
    other = write(
        project.parent / "other.csv",
        [*(f"Fe{2 * i}O2,{i}" for i in range(1, 4)), *(f"Ni{i}O,{i}" for i in range(1, 41))],
    )
    put(other, NewProperty("taught", "1", "d"))
    catalog = load_catalog()
    fetch_files(catalog.pinned_files(["strength", "taught"]), project / "raw")
    written = prepare_study(catalog, ["strength"], ["taught"], project / "raw", project / "prepared")
    target, source = (pd.read_parquet(written[key]) for key in ("strength", "taught"))
    assert not set(target["composition"]) & set(source["composition"])
    assert len(source) == 40
    assert prepare_source(catalog, "taught", project / "raw").frame["composition"].nunique() == 43


@pytest.mark.slow
def test_dvc_keeps_the_folder_and_notices_a_change(project):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}

    def dvc(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    subprocess.run(["git", "init", "--quiet"], check=True)
    dvc("init", "--quiet")
    kept = put(project.parent / "mine.csv")
    assert [path.name for path in kept] == ["catalog.yaml", "strength.dvc", ".gitignore"]
    assert "strength" in (project / "own" / ".gitignore").read_text()
    (project / "own" / "strength" / "train.csv").write_text("formula,value\nNaCl,1\n")
    assert "own/strength" in dvc("status")
    remove_data("strength")
    assert not (project / "own" / "strength.dvc").exists()
    assert not list((project / "own").glob(".strength*"))


def test_groups_go_with_the_data_into_the_study(project):
    path = project.parent / "grouped.csv"
    lines = [f"Fe{i + 1}O,{i}.25,paper {i // 4}" for i in range(80)] + ["Fe1O,7,review", "Fe9O,7,review"]
    path.write_text("formula,strength,paper\n" + "\n".join(lines) + "\n")
    table = read_own_file(path, target="strength", group_column="paper")
    add_data(path, table, held_out_rows(path, table), NEW)
    entry = load_catalog().property("strength")
    fetch_files(entry.files, project / "raw")
    frame = prepare_target(load_catalog(), "strength", project / "raw").frame
    held = set(frame.loc[frame["split"] == "test", "group"])
    assert held
    assert not held & set(frame.loc[frame["split"] == "train", "group"])
    assert frame["composition"].nunique() == 80
    assert frame["group"].nunique() == 19  # twenty papers, two of which the review joins
    prepare_study(load_catalog(), ["strength"], [], project / "raw", project / "prepared")
    assert (project / "prepared" / "strength.grouped.parquet").is_file()


def test_few_groups_are_refused_as_few_compositions_are(project):
    path = project.parent / "grouped.csv"
    path.write_text(
        "formula,strength,paper\n" + "".join(f"Fe{i + 1}O,{i},paper {i % 5}\n" for i in range(80))
    )
    table = read_own_file(path, target="strength", group_column="paper")
    with pytest.raises(
        OwnFileError, match=r"5 group\(s\) without a common composition.*another --group-column"
    ):
        refuse_too_few(path, table)


def test_a_stop_after_dvc_has_taken_note_leaves_no_note_behind(project, monkeypatch):
    put(project.parent / "mine.csv", NewProperty("other", "MPa", "d"))
    (project / "own" / ".gitignore").write_text("/other\n")
    before = contents(project / "own")

    def track(folder, root):
        folder.with_name(f"{folder.name}.dvc").write_text("outs: ...")
        (project / "own" / ".gitignore").write_text(f"/other\n/{folder.name}\n")

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(add, "track", track)
    monkeypatch.setattr(add, "is_tracked_place", lambda *arguments: True)
    monkeypatch.setattr(add, "write_entry", stop)
    with pytest.raises(KeyboardInterrupt):
        put(project.parent / "mine.csv")
    assert contents(project / "own") == before
