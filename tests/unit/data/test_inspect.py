import io

import pytest
from rich.console import Console

from crossprop.data.inspect import list_properties, show_property, verify_data
from crossprop.data.prepare import prepare_study
from crossprop.errors import UnknownPropertyError


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
