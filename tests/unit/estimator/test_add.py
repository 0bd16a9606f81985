"""Adding a file: what is in the project afterwards, and that a failure leaves it as it was."""

import csv
import shutil

import pytest

from crossprop.data.catalog import load_catalog
from crossprop.data.download import blob_id, fetch_files
from crossprop.data.prepare import prepare_target
from crossprop.data.user_rows import read_user_table
from crossprop.errors import DataError, UserFileError
from crossprop.estimator import add
from crossprop.estimator.add import add_data, held_out_rows, refuse_too_few, remove_data

NEW = {"unit": "MPa", "description": "Strength of steels"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project folder, and beside it a file of 60 good rows and a bad one."""
    monkeypatch.delenv("CROSSPROP_CATALOG", raising=False)
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    write(tmp_path / "mine.csv", [*(f"Fe{i}O,{i}.25" for i in range(1, 61)), "Foo,1"])
    return root


def write(path, lines, header="formula,strength"):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def put(path, key="strength", replace=False, **reading):
    table = read_user_table(path, target="strength", **reading)
    return add_data(path, table, held_out_rows(path, table), key, NEW, replace=replace)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def prepared(project, key="strength"):
    fetch_files(load_catalog().property(key).files, project / "raw")
    return prepare_target(load_catalog(), key, project / "raw").frame


def test_a_file_becomes_a_property_that_can_be_prepared(project):
    path = project.parent / "mine.csv"
    put(path)
    entry = load_catalog().property("strength")
    assert (entry.unit, entry.rows, entry.is_own) == ("MPa", 60, True)
    assert f"blob {blob_id(path)}" in entry.notes[0]
    frame = prepared(project)
    given = {r["formula"]: float(r["strength"]) for r in csv.DictReader(path.open()) if r["formula"] != "Foo"}
    assert dict(zip(frame["formula"], frame["value"], strict=True)) == given
    held = frame["split"] == "test"
    assert held.sum() == 15
    assert not set(frame.loc[held, "composition"]) & set(frame.loc[~held, "composition"])
    assert (project / "own" / "strength" / "original.csv").read_bytes() == path.read_bytes()
    dropped = list(csv.DictReader((project / "own" / "strength" / "dropped.csv").open()))
    assert [(row["line"], row["kind"]) for row in dropped] == [("62", "formula")]


def test_the_same_file_gives_the_same_bytes_also_where_it_is_the_one_that_was_kept(project):
    put(project.parent / "mine.csv")
    before = contents(project / "own")
    put(project.parent / "mine.csv", replace=True)
    assert contents(project / "own") == before
    put(project / "own" / "strength" / "original.csv", replace=True)
    after = contents(project / "own")
    assert {name for name in after if after[name] != before[name]} == {"catalog.yaml"}  # the file's name


@pytest.mark.parametrize("key", ["strength", "fresh"])
@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("shutil.copyfile", OSError(28, "No space left")),
        ("_dvc", UserFileError("busy")),
        ("write_entry", KeyboardInterrupt()),
    ],
)
def test_a_failure_leaves_what_was_there(project, monkeypatch, place, error, key):
    put(project.parent / "mine.csv")
    (project / "own" / ".gitignore").write_text("/strength\n")
    before = contents(project / "own")
    other = write(project.parent / "other.csv", [f"Ni{i}O,{i}" for i in range(1, 31)])

    def fail(*arguments):
        raise error

    def dvc(command, folder):
        folder.with_name(f"{folder.name}.dvc").write_text("outs: ...")
        (project / "own" / ".gitignore").write_text(f"/strength\n/{folder.name}\n")

    (project / ".dvc").mkdir()
    monkeypatch.setattr(add, "_dvc", dvc)
    monkeypatch.setattr(f"crossprop.estimator.add.{place}", fail)
    with pytest.raises(type(error)):
        put(other, key, replace=True)
    assert contents(project / "own") == before


@pytest.mark.parametrize("killed", ["between the renames", "before the catalogue", "after the catalogue"])
def test_what_an_add_that_was_killed_left_is_put_right_by_the_next_command(project, killed):
    put(project.parent / "mine.csv")
    folder, former = project / "own" / "strength", project / "own" / ".strength.former"
    before = contents(project / "own")
    shutil.copytree(folder, former)
    if killed == "between the renames":
        shutil.rmtree(folder)
    elif killed == "before the catalogue":
        (folder / "train.csv").write_text("formula,value\nNiO,1\n")
    with pytest.raises(UserFileError, match=r"already\. Replace it with --replace"):
        put(project.parent / "mine.csv")
    assert contents(project / "own") == before
    folder.rename(former)
    remove_data("strength")
    assert [path.name for path in (project / "own").iterdir()] == ["catalog.yaml"]
    with pytest.raises(DataError, match="yours are: none"):
        remove_data("strength")


def test_too_little_to_learn_from_is_refused_with_the_reason(project):
    for lines, message in (
        ([f"Fe{i}O,{i},a{i}" for i in range(1, 20)], "at least 20 rows of 15 different ones are needed"),
        ([f"Fe{i % 14 + 1}O,{i},a{i}" for i in range(40)], r"40 usable row\(s\) of 14 group\(s\)"),
        ([f"Fe{i + 1}O,{i},a{i % 5}" for i in range(80)], "5 group.*another --group-column"),
        ([f"Fe{i}O,3,a{i}" for i in range(1, 31)], "a constant"),
        ([f"Fe{i}O,{i}e31,a{i}" for i in range(1, 31)], "larger unit"),
    ):
        path = write(project.parent / "few.csv", lines, "formula,strength,paper")
        with pytest.raises(DataError, match=message):
            refuse_too_few(path, read_user_table(path, target="strength", group_column="paper"))


def test_a_split_column_has_to_leave_both_sides(project):
    lines = [f"Fe{i}O,{i},{'test' if i > 25 else 'train'}" for i in range(1, 31)]
    path = write(project.parent / "split.csv", lines, "formula,strength,set")
    table = read_user_table(path, target="strength", split_column="set")
    assert held_out_rows(path, table).tolist() == [False] * 25 + [True] * 5
    for kind, side in (("training", "train"), ("hold-out", "test")):
        table.rows["split"] = side
        with pytest.raises(UserFileError, match=f"every usable row a {kind} row"):
            held_out_rows(path, table)


def test_groups_go_with_the_data_into_the_study(project):
    lines = [f"Fe{i + 1}O,{i}.25,paper {i // 4}" for i in range(80)] + ["Fe1O,7,review", "Fe9O,7,review"]
    put(write(project.parent / "grouped.csv", lines, "formula,strength,paper"), group_column="paper")
    frame = prepared(project)
    held = frame["split"] == "test"
    assert held.any()
    assert not set(frame.loc[held, "group"]) & set(frame.loc[~held, "group"])
    assert frame["composition"].nunique() == 80
    assert frame["group"].nunique() == 19  # twenty papers, two of which the review joins
