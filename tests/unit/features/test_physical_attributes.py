import re
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crossprop.data.compositions import ELEMENTS, fraction_matrix, parse_formulas
from crossprop.errors import DataError, ShapeMismatchError
from crossprop.features import magpie
from crossprop.features.magpie import ATTRIBUTE_NAMES, physical_attributes

AWKWARD_FORMULAS = [
    *("Fe", "C60", "Ni3Al", "KrF2", "XeF6", "NaN", "NaCl", "CO", "LiFePO4", "KAl3Si3O12H2", "Pu2O3"),
    "Fe3O4",  # needs two oxidation states of iron, which the fast check does not allow
    "CoCrFeMnNi",  # five most abundant elements: mode takes the least value
    *("Al0.3CoCrFeNi", "Fe0.333Co0.667O1.2", "Bi2Sr2CaCu2O8.2"),
    "CHNOPSFClBrI",  # 86,400 combinations of oxidation states
]


def featurizers():
    from matminer.featurizers.composition import ElementProperty, IonProperty, Stoichiometry, ValenceOrbital

    magpie_preset = ElementProperty.from_preset("magpie", impute_nan=True)
    valence, ions = ValenceOrbital(props=["avg"], impute_nan=True), IonProperty(fast=True, impute_nan=True)
    return [Stoichiometry(), magpie_preset, valence, ions]


def assert_same_as_matminer(formulas, fractions=None):
    from pymatgen.core import Composition

    made, compositions = featurizers(), [Composition(formula) for formula in formulas]
    theirs = np.array([[v for f in made for v in f.featurize(c)] for c in compositions], dtype=np.float64)
    ours = physical_attributes(fraction_matrix(formulas) if fractions is None else fractions)
    difference = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1.0)
    worst = np.unravel_index(difference.argmax(), difference.shape)
    where = f"{ATTRIBUTE_NAMES[worst[1]]} of {formulas[worst[0]]}"
    assert difference[worst] < 1e-9, f"{where}: {ours[worst]} here, {theirs[worst]} in matminer"


def test_equal_to_matminer_on_hundreds_of_formulas_of_the_embedded_transport_data():
    import matminer

    archive = Path(matminer.__file__).parent / "utils/data_files/mp_transport/transport_database.tar.xz"
    with tarfile.open(archive) as tar:
        table = pd.read_csv(tar.extractfile(tar.next()), keep_default_na=False, usecols=["pretty_formula"])
    drawn = np.random.default_rng(1234567).permutation(np.unique(table["pretty_formula"].astype(str)))
    _, known, _ = parse_formulas(drawn[:700])
    assert_same_as_matminer(drawn[known[:600]].tolist())


def test_equal_to_matminer_on_awkward_formulas():
    labels = [label for featurizer in featurizers() for label in featurizer.feature_labels()]
    assert list(ATTRIBUTE_NAMES) == labels
    assert_same_as_matminer(AWKWARD_FORMULAS)


def test_equal_to_matminer_with_its_imputation_on_each_of_the_86_elements():
    assert_same_as_matminer(ELEMENTS, np.eye(len(ELEMENTS)))


def test_chunks_do_not_change_the_result(monkeypatch):
    fractions = fraction_matrix(AWKWARD_FORMULAS)
    whole = physical_attributes(fractions)
    monkeypatch.setattr(magpie, "_CHUNK_ROWS", 1)
    np.testing.assert_allclose(physical_attributes(fractions), whole, rtol=1e-13, atol=1e-13)


def test_fractions_stored_in_single_precision_keep_their_attributes():
    fractions = fraction_matrix(AWKWARD_FORMULAS)
    exact, rounded = physical_attributes(fractions), physical_attributes(fractions.astype(np.float32))
    np.testing.assert_allclose(rounded, exact, rtol=2e-6, atol=2e-6)
    possible = ATTRIBUTE_NAMES.index("compound possible")
    assert (rounded[:, possible] == exact[:, possible]).all()
    widened = physical_attributes(fractions.astype(np.float32).astype(np.float64))
    assert (widened[:, possible] == exact[:, possible]).all()


def test_matrix_of_another_shape_and_an_impossible_row_are_refused():
    for shape in ((3, 85), (86,)):
        with pytest.raises(ShapeMismatchError, match=re.escape(str(shape))):
            physical_attributes(np.ones(shape))
    for value in (np.nan, np.inf, -0.5, 0.0, 0.7):
        fractions = fraction_matrix(["NaCl", "MgO", "Fe"])
        fractions[2] = 0.0
        fractions[2, 0] = value
        with pytest.raises(DataError, match=r"Row 2 .* is no composition"):
            physical_attributes(fractions)
