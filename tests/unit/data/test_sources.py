from __future__ import annotations

import numpy as np
import pytest

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.data.sources import fit_references
from crossprop.errors import DataError, ShapeMismatchError

H, LI, FE, O = (ELEMENTS.index(e) for e in ("H", "Li", "Fe", "O"))  # noqa: E741 oxygen


@pytest.fixture
def known() -> tuple[np.ndarray, np.ndarray]:
    """Random H-Li-Fe-O compositions, and the difference that known references make."""
    rng = np.random.default_rng(0)
    fractions = np.zeros((400, 86))
    fractions[:, [H, LI, FE, O]] = rng.dirichlet(np.ones(4), 400)
    fractions[::2, O] = 0.0
    fractions /= fractions.sum(axis=1, keepdims=True)
    references = np.zeros(86)
    references[[H, LI, FE, O]] = [-3.4, -1.9, -8.2, -4.9]
    correction = 2.2 * fractions[:, FE] * (fractions[:, O] > 0)
    return fractions, fractions @ references + correction


def test_references_and_the_correction_beside_oxygen_are_found_despite_outliers(known):
    fractions, difference = known
    difference = difference.copy()
    difference[::20] += 5.0
    fitted = fit_references(fractions, difference, ("Fe",), "O")
    np.testing.assert_allclose(fitted.coefficients[[H, LI, FE, O]], [-3.4, -1.9, -8.2, -4.9], atol=1e-3)
    assert fitted.coefficients[86] == pytest.approx(2.2, abs=1e-3)
    assert (fitted.residuals <= 0.01).mean() == pytest.approx(0.95)
    fe2o3, fe2li = fitted.predict(fraction_matrix(["Fe2O3", "Fe2Li"]))
    assert fe2o3 == pytest.approx(0.4 * (-8.2 + 2.2) + 0.6 * -4.9, abs=1e-3)
    assert fe2li == pytest.approx((2 * -8.2 - 1.9) / 3, abs=1e-3)


def test_an_element_that_the_shared_rows_do_not_hold_has_no_reference(known):
    fitted = fit_references(*known)
    assert np.isnan(fitted.predict(fraction_matrix(["NaH"]))).all()


def test_too_few_shared_rows_are_refused(known):
    fractions, difference = known
    with pytest.raises(DataError, match="Only 50 compositions"):
        fit_references(fractions[:50], difference[:50])
    with pytest.raises(ShapeMismatchError):
        fit_references(fractions, difference[:50])
