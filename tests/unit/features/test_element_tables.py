import numpy as np
import pytest

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import DataError
from crossprop.features import element_tables as tables_module
from crossprop.features.element_tables import (
    MAGPIE_PROPERTIES,
    element_tables,
    installed_tables,
    keep_element_tables,
    restore_element_tables,
)


def test_tables_hold_known_facts_of_iron_and_no_gap_and_cannot_be_changed():
    tables, iron = element_tables(), ELEMENTS.index("Fe")
    assert tables.magpie[iron, MAGPIE_PROPERTIES.index("Number")] == 26
    assert tables.electronegativity[iron] == pytest.approx(1.83)
    assert tables.oxidation_states[iron] == (2, 3)
    assert tables.magpie.shape == (86, 22)
    assert np.isfinite(tables.magpie).all()
    assert all(tables.oxidation_states)
    with pytest.raises(ValueError, match="read-only"):
        tables.magpie[0, 0] = 1.0


def test_tables_of_other_versions_are_taken_only_where_they_are_the_same(tmp_path, monkeypatch):
    path = tmp_path / "elements.npz"
    with monkeypatch.context() as older:
        older.setattr(tables_module, "tables_origin", lambda: "matminer==0.0.1 pymatgen==2001.1.1")
        keep_element_tables(path)
    restore_element_tables(path)
    with np.load(path) as kept:
        changed = dict(kept) | {"electronegativity": kept["electronegativity"] + 0.01}
    np.savez(path, **changed)
    with pytest.raises(DataError, match=r"learnt from the element tables of matminer==0\.0\.1"):
        restore_element_tables(path)


def test_gap_in_the_installed_data_is_named_and_not_imputed(monkeypatch):
    from matminer.utils.data import MagpieData

    original = MagpieData.get_elemental_property

    def with_gap(self, element, name):
        return float("nan") if (element.symbol, name) == ("Tc", "MeltingT") else original(self, element, name)

    monkeypatch.setattr(MagpieData, "get_elemental_property", with_gap)
    with pytest.raises(DataError, match="'MeltingT' for Tc"):
        installed_tables.__wrapped__()
