"""What ``held_out_chemistry.py`` says of what it has learnt: tables and a figure, from stored evidence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.report.figures import QUALITATIVE, house_style, save_png
from crossprop.uncertainty.conformal import Calibration
from crossprop.uncertainty.evidence import judge
from crossprop.uncertainty.neighbours import domain_radius

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, np.inf)
"""Distances to the nearest training composition, in radii of the domain."""
OLD_QUANTILE = 0.99
KINDS = {"test": "random", "away": "held out"}
LEAST_SHOWN = 50


def judged_runs(paths: Sequence[Path]) -> pd.DataFrame:
    """One row for every row that was held out, at random or with its chemistry, and what was said about it.

    ``before`` is the same with a width that does not grow with the distance; ``far_before`` a distance beyond
    the radius that 99 % of the training compositions keep to.
    """
    parts = []
    for path in paths:
        target, name = path.stem.split("~")
        evidence = pd.read_parquet(path)
        calibrating = evidence[evidence["split"] != "away"]
        calibration = Calibration.fit(calibrating)
        still = replace(calibration, growth=0.0).at_coverage(calibrating, calibration.coverage)
        seen = (fraction_matrix(evidence["formula"][evidence["split"] == "train"]) > 0).any(axis=0)
        info = {"seen_elements": [e for e, there in zip(ELEMENTS, seen, strict=True) if there]}
        rows = evidence[evidence["split"] != "train"]
        fractions = fraction_matrix(rows["formula"])
        y, value = rows["y_true"].to_numpy(), rows["y_pred"].to_numpy()
        said, before = (judge(info, c, value, fractions) for c in (calibration, still))
        distance = calibration.around.nearest(fractions, 1)[0][:, 0]
        parts.append(
            pd.DataFrame(
                {
                    "target": target,
                    "chemistry": name,
                    "kind": rows["split"].map(KINDS).to_numpy(),
                    "error": np.abs(y - value),
                    "held": (said.lower <= y) & (y <= said.upper),
                    "held_before": (before.lower <= y) & (y <= before.upper),
                    "width": said.upper - said.lower,
                    "width_before": before.upper - before.lower,
                    "distance": distance / (calibration.radius or np.inf),
                    "flagged": [bool(note) for note in said.notes],
                    "unseen": ((fractions > 0) & ~seen).any(axis=1),
                    "far_before": distance > (domain_radius(calibration.around, OLD_QUANTILE) or np.inf),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def by_chemistry(judged: pd.DataFrame) -> pd.DataFrame:
    """One row for each target and chemistry; shares as such, errors as ratios."""
    rows = []
    for (target, name), run in judged.groupby(["target", "chemistry"], sort=False):
        away, random = (run[run["kind"] == kind] for kind in ("held out", "random"))
        flagged, quiet = away[away["flagged"]], away[~away["flagged"]]
        rows.append(
            {
                "target": target,
                "chemistry": name,
                "rows": len(away),
                "mae_ratio": away["error"].mean() / random["error"].mean(),
                "coverage": away["held"].mean(),
                "coverage_before": away["held_before"].mean(),
                "width_ratio": away["width"].mean() / away["width_before"].mean(),
                "coverage_random": random["held"].mean(),
                "coverage_random_before": random["held_before"].mean(),
                "width_ratio_random": random["width"].mean() / random["width_before"].mean(),
                "flagged": away["flagged"].mean(),
                "flagged_before": (away["unseen"] | away["far_before"]).mean(),
                "of_unseen_elements": away["unseen"].mean(),
                "flagged_random": random["flagged"].mean(),
                "coverage_flagged": flagged["held"].mean(),
                "coverage_not_flagged": quiet["held"].mean(),
                "mae_flagged_to_not": flagged["error"].mean() / quiet["error"].mean()
                if len(flagged) and len(quiet)
                else np.nan,
            }
        )
    return pd.DataFrame(rows)


def by_distance(judged: pd.DataFrame) -> pd.DataFrame:
    """Coverage by distance to the nearest training composition, rows of all targets together."""
    labels = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(EDGES)]
    bins = pd.cut(judged["distance"], EDGES, labels=labels, include_lowest=True)
    groups = judged[judged["chemistry"].str[:8] != "greatest"].groupby(["kind", bins], observed=True)
    table = groups.agg(
        rows=("held", "size"),
        coverage=("held", "mean"),
        coverage_before=("held_before", "mean"),
        mean_distance=("distance", "mean"),
    )
    return table.reset_index()


def write_report(judged: pd.DataFrame, folder: Path, part: str) -> list[str]:
    """Write two tables, for the study a figure, too; what they say in short."""
    folder.mkdir(parents=True, exist_ok=True)
    chemistries, distances = by_chemistry(judged), by_distance(judged)
    chemistries.round(4).to_csv(folder / f"{part}_chemistries.csv", index=False, lineterminator="\n")
    distances.round(4).to_csv(folder / f"{part}_distances.csv", index=False, lineterminator="\n")
    if part == "study":
        _draw(chemistries, distances, folder / "coverage.png")
    greatest = chemistries["chemistry"].str.startswith("greatest")
    kinds = {
        "greatest values": greatest,
        "with elements never seen": ~greatest & (chemistries["of_unseen_elements"] > 0.5),
        "of known elements": ~greatest & (chemistries["of_unseen_elements"] <= 0.5),
    }
    lines = [f"{'':<28}{'runs':>5}{'MAE':>7}{'coverage':>10}{'before':>8}{'flagged':>9}{'before':>8}"]
    columns = ["mae_ratio", "coverage", "coverage_before", "flagged", "flagged_before"]
    for name, which in kinds.items():
        ratio, *shares = chemistries.loc[which, columns].mean()
        told = (f"{100 * share:.1f} %" for share in shares)
        lines.append("{:<28}{:>5}{:>7.2f}{:>10}{:>8}{:>9}{:>8}".format(name, which.sum(), ratio, *told))
    random = judged[judged["kind"] == "random"]
    before = (random["unseen"] | random["far_before"]).mean()
    shares = (random["held"].mean(), random["held_before"].mean(), random["flagged"].mean(), before)
    told = (f"{100 * share:.1f} %" for share in shares)
    lines.append("{:<28}{:>5}{:>7.2f}{:>10}{:>8}{:>9}{:>8}".format("at random", len(chemistries), 1.0, *told))
    return [*lines, "", distances.round(3).to_string(index=False)]


def _draw(chemistries: pd.DataFrame, distances: pd.DataFrame, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stated = {"color": "#444444", "lw": 0.8}
    with house_style():
        figure = Figure(figsize=(9.4, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        for kind, colour in zip(KINDS.values(), QUALITATIVE, strict=False):
            rows = distances[(distances["kind"] == kind) & (distances["rows"] >= LEAST_SHOWN)]
            for column, line, word in (
                ("coverage", "o-", ""),
                ("coverage_before", "o:", ", width not growing"),
            ):
                left.plot(rows["mean_distance"], 100 * rows[column], line, ms=4, color=colour, label=kind + word)
        left.axhline(90, **stated)
        left.set(ylim=(50, 100), xlabel="distance to training, radii of the domain", ylabel="coverage, %")
        left.legend(loc="lower left")
        left.set_title("All targets by distance")
        names = list(dict.fromkeys(chemistries["chemistry"]))
        places = chemistries["chemistry"].map(names.index)
        for column, up, face in (("coverage_before", -0.13, "none"), ("coverage", 0.13, QUALITATIVE[1])):
            right.scatter(100 * chemistries[column], places + up, s=22, edgecolors=QUALITATIVE[1], facecolors=face)
        right.axvline(90, **stated)
        right.set_yticks(range(len(names)), names)
        right.invert_yaxis()
        right.grid(axis="y")
        right.set(xlabel="coverage, %; hollow: width not growing")
        right.set_title("Held-out chemistries, a point a target")
        save_png(figure, path)
