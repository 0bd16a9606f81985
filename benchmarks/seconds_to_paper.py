"""How many worker seconds a study spends on a target until a model of it passes the paper's lowest MAE.

    python benchmarks/seconds_to_paper.py --report reports/jarvis --out seconds_to_paper.csv

Reads a study's report and fits nothing. The methods count one after the other, the plain median first: their seconds
are those of all their cells, tuning and all folds included, those of source networks are not. The model at hand is the
cross-validated one with the lowest cross-validated MAE so far, the mean of its fold models; the hold-out only measures
it. Prints and writes a line for each target, in the property's unit.
"""

import argparse
from pathlib import Path

import pandas as pd

PLAIN = "plain_median"
COMPARED = {"base", "plain_baseline"}  # no model of the study


def passed(cells: pd.DataFrame, lowest: float) -> dict[str, float | str | None]:
    """Seconds of the plain median and until a model passes ``lowest``, and its method, or None for never.

    ``cells`` are those of one target: ``method``, ``seconds``, and ``cv_mae_mean`` and ``test_mae_ensemble`` in the
    property's unit, NaN where they were not cross-validated.
    """
    spent = plain = 0.0
    best = (float("inf"), float("inf"), "")
    until: float | None = None
    methods = sorted(cells["method"].unique(), key=lambda method: method != PLAIN)
    for method in (method for method in methods if method not in COMPARED):
        of_method = cells[cells["method"] == method]
        spent += float(of_method["seconds"].sum())
        plain = spent if method == PLAIN else plain
        for _, cell in of_method[of_method["cv_mae_mean"].notna()].iterrows():
            best = min(best, (cell["cv_mae_mean"], cell["test_mae_ensemble"], method))
        if until is None and best[1] < lowest:
            until, by = spent, best[2]
    return {
        "plain_seconds": plain, "seconds": until, "method": by if until is not None else None,
        "all_seconds": spent, "best_over_lowest": best[1] / lowest,
    }  # fmt: skip


def main() -> None:
    """Measure every target of a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("seconds_to_paper.csv"))
    args = parser.parse_args()
    cells, runs = pd.read_csv(args.report / "cells.csv"), pd.read_csv(args.report / "runs.csv")
    if not cells["target"].equals(runs["target"]):
        parser.error(f"{args.report}: cells.csv and runs.csv differ in their rows; write the report again.")
    cells["seconds"] = runs["tune_seconds"] + runs["fit_seconds"]
    lowest = pd.read_csv(args.report / "targets.csv").set_index("target")["paper_lowest_mae"].dropna()
    if lowest.empty:
        parser.error(f"{args.report}: the paper has none of its targets. Name a report of a study `jarvis…`.")
    rows = [{"target": t, **passed(cells[cells["target"] == t], mae)} for t, mae in lowest.items()]
    table = pd.DataFrame(rows)
    table.to_csv(args.out, index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    by_plain = int((table["method"] == PLAIN).sum())
    print(f"passed on {table['seconds'].notna().sum()} of {len(table)}, on {by_plain} by the plain median")


if __name__ == "__main__":
    main()
