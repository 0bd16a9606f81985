"""The catalogue of the paper's properties and the user's: where it is found, what is written, refused and shown."""

import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from crossprop.data.catalog import CATALOG_VARIABLE, builtin_catalog, load_catalog, own_catalog
from crossprop.data.download import fetch_files
from crossprop.data.inspect import list_properties, show_property, verify_data
from crossprop.data.prepare import prepare_study
from crossprop.data.user_catalog import check_new_key, key_of, own_entries, remove_entry, write_entry
from crossprop.errors import DataError, FetchError, UnknownPropertyError, UserFileError

CATALOG = builtin_catalog()

ENTRY = {
    "label": "mine", "unit": "MPa", "roles": ["target"], "description": "mine", "citation": "none", "licence": "none",
    "origin": "mine", "columns": {"formula": "f", "value": "v"},
    "files": [{"split": "all", "path": "a.csv", "blob": "0" * 40}],
}  # fmt: skip
ORIGIN = {"folder": "mine", "licence": "none"}


def write(tmp_path, **changes):
    values = {"origins": {"mine": {"folder": "here"}}, "properties": {"my_property": {**ENTRY, **changes}}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_all_41_targets_of_the_paper_are_there_with_their_figures():
    targets = [e for e in CATALOG.entries("target") if e.paper.lowest_mae is not None]
    assert len(targets) == 41
    exfoliation = CATALOG.property("Exfoli").paper
    assert (exfoliation.sc_ef_mae_table2, exfoliation.tl_mae_table2) == (59.37, 48.11)
    assert (exfoliation.tl_mae_table3_or_5, exfoliation.sc_mae_table4_or_5) == (51.56, 54.26)
    assert (exfoliation.lowest_mae, exfoliation.base_mae) == (48.11, 62.93)
    measured = CATALOG.property("expt_bandgap").paper
    assert measured.sc_ef_mae_table2 is None
    assert (measured.tl_mae_table3_or_5, measured.sc_mae_table4_or_5) == (0.3551, 0.4458)


def test_a_property_is_found_by_key_and_by_label_and_an_unknown_one_names_near_misses():
    assert {CATALOG.property(name).key for name in ("piezo_max_dij", "PMDij", "pmdij")} == {"piezo_max_dij"}
    with pytest.raises(UnknownPropertyError, match="Did you mean exfoliation_energy"):
        CATALOG.property("exfoliaton_energy")
    with pytest.raises(UnknownPropertyError, match="crossprop data list"):
        CATALOG.property("qqqqqqqq")


def test_a_catalogue_of_ones_own_is_merged(tmp_path):
    catalog = load_catalog(write(tmp_path))
    file = catalog.property("my_property").files[0]
    assert file.folder == str(tmp_path / "here")
    assert str(file.relative_path) == "local/mine/files/a.csv"
    assert len(catalog.properties) == len(CATALOG.properties) + 1


def test_a_wrong_entry_is_refused_with_its_place(tmp_path):
    for changes, part in (
        ({"unti": "eV"}, "unti"),
        ({"files": [{"path": "../a.csv", "blob": "0" * 40}]}, "without '..'"),
        ({"files": []}, "names no files"),
        ({"files": [{"split": "train", "path": "a.csv", "blob": "0" * 40}]}, "'train' and 'test'"),
        ({"label": "PMDij"}, "belongs to"),
        ({"origin": "nowhere"}, "nowhere"),
        ({"columns": None}, "embedded"),
    ):
        with pytest.raises(DataError, match=part):
            load_catalog(write(tmp_path, **changes))


def test_what_is_no_catalogue_is_refused(tmp_path):
    path, texts = tmp_path / "mine.yaml", ("- a\n", "properties: [", "things: {}\n", "properties:\n  x: 3\n")
    for text, part in [
        *((text, "catalogue") for text in texts),
        ("properties: {klu: {}}\n", "redefines"),
        ("properties: {}\nproperties: {}\n", "twice"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=part):
            load_catalog(path)
    path.unlink()
    with pytest.raises(DataError, match="read"):
        load_catalog(path)


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


def test_names_that_cannot_be_are_refused(tmp_path):
    for key, part in (
        *((key, "no key") for key in ("Yield strength", "", "_x", "../x")),
        *((key, "a number") for key in ("12", "null", "1e5", "true")),
        ("band_gap", "of its own"),
        ("pmdij", "of its own"),  # a label of the built-in catalogue
        ("taken", "--replace"),
    ):
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
    (tmp_path / "own" / "mine" / "a.csv").write_text("formula,value\nNaCl,1\n")
    with pytest.raises(FetchError, match="data add"):
        fetch_files(load_catalog(catalog).property("mine").files, tmp_path / "raw")


def printed(table, width=200):
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


def test_the_list_names_every_property_with_rows_unit_role_and_place(tiny):
    catalog, raw = tiny
    text = printed(list_properties(catalog, raw))
    assert all(entry.key in text for entry in catalog.entries())
    line = next(line for line in text.splitlines() if "exfoliation_energy" in line)
    assert all(part in line for part in ("Exfoli", "target", "557", "meV/atom", "to fetch"))
    assert "installed" in next(line for line in text.splitlines() if "seebeck_n" in line)
    assert " own " in next(line for line in text.splitlines() if "tiny_target" in line)
    narrow = printed(list_properties(catalog, raw, brief=True), width=80)
    assert all(entry.key in narrow for entry in catalog.entries())
    assert f"{catalog.property('klu').rows:,}" in next(line for line in narrow.splitlines() if "klu" in line)
    assert "exfoliation_energy" not in printed(list_properties(catalog, raw, role="source"))


def test_a_property_is_shown_with_the_papers_figures_and_its_traps(tiny, tmp_path):
    text = show_property(tiny[0], "nem300k", tiny[1], tmp_path)
    parts = ("m_e", "npj Comput. Mater.", "Northwestern", "nem300k_test_set.csv", "1.282", "same rows and")
    assert all(part in text for part in parts)
    assert "column S_n" in show_property(tiny[0], "seebeck_n", tiny[1], tmp_path)
    assert "of edition open" in show_property(tiny[0], "formation_energy", tiny[1], tmp_path)
    with pytest.raises(UnknownPropertyError):
        show_property(tiny[0], "unheard_of", tiny[1], tmp_path)
    prepare_study(tiny[0], ["tiny_target"], [], tiny[1], tmp_path / "prepared" / "mine")
    text = show_property(tiny[0], "tiny_target", tiny[1], tmp_path / "prepared")
    assert "for study mine: 4 train, 2 test, 5 compositions; 1 to 6, median 3.5 eV" in text


def test_verification_finds_damaged_files(tiny):
    catalog, raw = tiny
    damaged, text = verify_data(catalog, raw)
    assert damaged == []
    assert text.startswith("4 files whole, 0 damaged")  # three files of the user and the embedded archive
    path = next(raw.rglob("tiny_target_train.csv"))
    path.write_text("formula,value\nNaCl,1.1\n")
    damaged, text = verify_data(catalog, raw)
    assert damaged == [path]
    assert "is damaged: delete it and fetch again" in text
