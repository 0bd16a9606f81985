"""The winners beside the plain baseline and the plain median."""

from __future__ import annotations

import numpy as np
import pandas as pd


def test_the_winner_is_compared_with_the_better_of_the_plain_models(extended_report, report):
    table = pd.read_csv(extended_report / "tables" / "plain.csv")
    better = table[["plain baseline", "plain median"]].min(axis=1)
    assert np.allclose(table["ratio"], table["winner_mae"] / better)
    page = (extended_report / "README.md").read_text(encoding="utf-8")
    assert f"lower than the better of the two on {(table['ratio'] < 1).sum()} of {len(table)} targets" in page
    assert not (report / "tables" / "plain.csv").exists()  # a study without them
