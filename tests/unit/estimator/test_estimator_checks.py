"""scikit-learn's own checks, fed with formulas made of their numbers."""

import warnings

import numpy as np
import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from crossprop import CrossPropertyRegressor

pytestmark = pytest.mark.slow

ELEMENTS = [
    "Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Al",
    "Ga", "In", "Si", "Ge", "Sn", "Fe", "Co", "Ni", "Cu", "Zn",
]  # fmt: skip
SKIPPED = {"check_array_api_input": "needs SCIPY_ARRAY_API; formulas are no arrays of numbers"}


class OnNumbers(CrossPropertyRegressor):
    """The estimator with an input of numbers, which it converts to formulas."""

    def fit(self, X, y):
        X, y = validate_data(self, X, y, y_numeric=True)
        width = self.n_features_in_
        super().fit(self._formulas(X), y)
        self.n_features_in_ = width
        return self

    def predict(self, X) -> np.ndarray:
        check_is_fitted(self)
        return super().predict(self._formulas(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags

    def _formulas(self, X) -> list[str]:
        made = []
        for row in np.asarray(X, float)[:, : len(ELEMENTS)]:
            amounts = np.exp(-np.abs(row) / (1 + np.abs(row).max())) + (row > 0)
            if len(row) == 1:
                amounts = [1 / (1 + np.exp(-row[0])), 1.0]
            made.append("".join(f"{e}{a:.6f}" for e, a in zip(ELEMENTS, amounts, strict=False)))
        return made


def checks() -> list:
    estimator = OnNumbers(methods=["ml"], trials=1, folds=2)
    options = {"legacy": True, "expected_failed_checks": SKIPPED, "mark": "skip"}
    given = estimator_checks.estimator_checks_generator(estimator, **options)
    names = [(made, check, getattr(check, "func", check).__name__) for made, check in given]
    assert len(names) > 45, "scikit-learn's checks are not found"
    return [pytest.param(made, check, id=f"{name}-{i}") for i, (made, check, name) in enumerate(names)]


@pytest.mark.parametrize(("estimator", "check"), checks())
def test_scikit_learns_check(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)
