import pytest
import yaml

from crossprop.data.catalog import builtin_catalog, load_catalog
from crossprop.errors import DataError, UnknownPropertyError

CATALOG = builtin_catalog()

ENTRY = {
    "label": "Mine",
    "unit": "eV",
    "roles": ["target"],
    "description": "mine",
    "citation": "none",
    "licence": "none",
    "origin": "mine",
    "columns": {"formula": "f", "value": "v"},
    "files": [{"split": "all", "path": "a.csv", "blob": "0" * 40}],
}


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


@pytest.mark.parametrize("name", ["piezo_max_dij", "PMDij", "pmdij"])
def test_a_property_is_found_by_key_and_by_label(name):
    assert CATALOG.property(name).key == "piezo_max_dij"


def test_an_unknown_property_names_near_misses():
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


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"unti": "eV"}, "unti"),
        ({"files": [{"path": "../a.csv", "blob": "0" * 40}]}, "without '..'"),
        ({"files": []}, "names no files"),
        ({"files": [{"split": "train", "path": "a.csv", "blob": "0" * 40}]}, "'train' and 'test'"),
        ({"label": "PMDij"}, "belongs to"),
        ({"origin": "nowhere"}, "nowhere"),
        ({"columns": None}, "embedded"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_place(tmp_path, changes, part):
    with pytest.raises(DataError, match=part):
        load_catalog(write(tmp_path, **changes))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        *(
            (text, "catalogue")
            for text in ("- a\n", "properties: [", "things: {}\n", "properties:\n  x: 3\n")
        ),
        ("properties: {klu: {}}\n", "redefines"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_catalogue_is_refused(tmp_path, text, part):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=part):
        load_catalog(path)
