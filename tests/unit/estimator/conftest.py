"""What several files use: a fit of one method."""

import pytest
from made_rows import rows_of

from crossprop import CrossPropertyRegressor


@pytest.fixture(scope="session")
def quick_fit() -> CrossPropertyRegressor:
    """A fit of one method to 60 rows, a fifth of them held out."""
    rows = rows_of(60)
    named = {"target": "hardness", "unit": "GPa"}
    options = {"methods": ["ml"], "trials": 1, "folds": 2, "holdout": 0.2, **named}
    return CrossPropertyRegressor(**options).fit(rows["formula"], rows["value"])
