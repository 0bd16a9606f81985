"""The catalogue of the user: where it is found, what is written, which names it refuses."""

from pathlib import Path

import pytest

from crossprop.data.catalog import CATALOG_VARIABLE, builtin_catalog, load_catalog, own_catalog
from crossprop.data.download import fetch_files
from crossprop.data.user_catalog import check_new_key, key_of, own_entries, remove_entry, write_entry
from crossprop.errors import DataError, FetchError, UserFileError

ENTRY = {
    "label": "mine",
    "unit": "MPa",
    "roles": ["target"],
    "description": "mine",
    "citation": "none",
    "origin": "mine",
    "columns": {"formula": "formula", "value": "value"},
    "files": [{"split": "train", "path": "train.csv", "blob": "0" * 40},
              {"split": "test", "path": "test.csv", "blob": "1" * 40}],
}  # fmt: skip
ORIGIN = {"folder": "mine", "licence": "none"}


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv(CATALOG_VARIABLE, raising=False)


def test_the_projects_catalogue_is_found_without_being_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert own_catalog() is None
    write_entry("mine", ORIGIN, ENTRY)
    assert own_catalog() == Path("own/catalog.yaml")
    entry = load_catalog().property("mine")
    assert entry.is_own
    assert entry.files[0].folder == str(tmp_path / "own" / "mine")
    assert "mine" not in builtin_catalog().properties
    assert not any(e.is_own for e in builtin_catalog().entries())


def test_the_variable_names_another_catalogue_or_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_entry("mine", ORIGIN, ENTRY)
    write_entry("other", ORIGIN, {**ENTRY, "label": "other", "origin": "other"}, tmp_path / "o.yaml")
    monkeypatch.setenv(CATALOG_VARIABLE, str(tmp_path / "o.yaml"))
    assert "other" in load_catalog().properties
    assert "mine" not in load_catalog().properties
    monkeypatch.setenv(CATALOG_VARIABLE, "")
    assert load_catalog() == builtin_catalog()
    monkeypatch.setenv(CATALOG_VARIABLE, str(tmp_path / "absent.yaml"))
    with pytest.raises(DataError, match="cannot be read"):
        load_catalog()


def test_entries_are_replaced_and_removed_one_by_one(tmp_path):
    path = tmp_path / "own" / "catalog.yaml"
    for name in ("a", "b"):
        write_entry(name, ORIGIN, {**ENTRY, "label": name}, path)
    write_entry("a", ORIGIN, {**ENTRY, "label": "a", "unit": "GPa"}, path)
    assert {key: entry["unit"] for key, entry in own_entries(path).items()} == {"a": "GPa", "b": "MPa"}
    before = path.read_bytes()
    write_entry("a", ORIGIN, {**ENTRY, "label": "a", "unit": "GPa"}, path)
    assert path.read_bytes() == before
    remove_entry("a", path)
    assert set(own_entries(path)) == {"b"}
    with pytest.raises(DataError, match="yours are: b"):
        remove_entry("a", path)
    remove_entry("b", path)
    assert own_entries(path) == {}
    assert load_catalog(path) == builtin_catalog()


@pytest.mark.parametrize(
    ("key", "part"),
    [
        *((key, "no key") for key in ("Yield strength", "", "_x", "../x")),
        *((key, "a number") for key in ("12", "null", "1e5", "true")),
        ("band_gap", "of its own"),
        ("pmdij", "of its own"),  # a label of the built-in catalogue
        ("taken", "--replace"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path, key, part):
    path = tmp_path / "catalog.yaml"
    write_entry("taken", ORIGIN, ENTRY, path)
    with pytest.raises(UserFileError, match=part):
        check_new_key(key, path)
    check_new_key("taken", path, replace=True)
    check_new_key("free", path)


def test_a_columns_name_gives_a_key():
    assert key_of("Bandlücke (eV)") == "bandlucke"
    with pytest.raises(UserFileError, match="--name"):
        key_of("(MPa)")


def test_a_file_that_was_changed_by_hand_is_not_fetched(tmp_path):
    catalog = tmp_path / "own" / "catalog.yaml"
    write_entry("mine", ORIGIN, ENTRY, catalog)
    (tmp_path / "own" / "mine").mkdir()
    (tmp_path / "own" / "mine" / "train.csv").write_text("formula,value\nNaCl,1\n")
    with pytest.raises(FetchError, match="data add"):
        fetch_files(load_catalog(catalog).property("mine").files, tmp_path / "raw")
