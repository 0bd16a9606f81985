"""Intervals and domain flag on chemistries that were held out whole, against rows that were held out at random.

    python benchmarks/held_out_chemistry.py --data data/prepared/jarvis --out held-out-chemistry

For some targets and for some chemistries (all nitrides, all compounds of an f-element with oxygen, the greatest
values, …) a model learns from everything else, as the platform does: extra trees on physical attributes, folds that
keep compositions together, the mean of the fold models. Its evidence calibrates it with the code that is served
(``Calibration.fit``); what is said about the held-out chemistry is held against the measured values, beside what is
said about a tenth of the other compositions, drawn at random.

``--development`` does the same within the rows that belong to none of these chemistries: clusters of compositions,
other elements, other pairs. Constants of intervals and domain are chosen there, and measured once on the others.

What is learnt is stored split by split, so that a run that was stopped goes on; judging it takes a minute. On one core
of its own the study takes about ten minutes, the development twenty.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from held_out_report import judged_runs, write_report

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.data.splits import cross_validation_folds
from crossprop.features.magpie import physical_attributes
from crossprop.methods import DEFAULT_SEED
from crossprop.models.regressors import build_regressor
from crossprop.models.target_transform import TargetTransform

TARGETS = ("deltae", "bulkmoduluskv", "shearmodulusgv", "optb88vdw_bandgap", "piezo_max_eij")
FURTHER = ("ehull", "eps", "encut", "mbj_bandgap", "max_mode", "spillage", "nseebeck", "expt_deltae")
"""Only in the development: targets that no figure of the study is about."""
FOLDS = 5
HYPERPARAMETERS = {"n_estimators": 50, "max_features": 0.3, "min_samples_leaf": 2}
LEAST_ROWS = 20
TOP_SHARE = 0.05
RANDOM_SHARE = 0.1

GROUPS = {
    "d": "Sc Ti V Cr Mn Fe Co Ni Cu Zn Y Zr Nb Mo Tc Ru Rh Pd Ag Cd Hf Ta W Re Os Ir Pt Au Hg",
    "f": "Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Th Pa U Np Pu",
    "alkali": "Li Na K Rb Cs",
    "alkaline": "Be Mg Ca Sr Ba",
    "poor": "Al Ga In Tl Sn Pb Bi",
}
Rows = np.ndarray


def holds(fractions: np.ndarray, symbols: str) -> Rows:
    """Which compositions hold one of the elements."""
    wanted = GROUPS.get(symbols, symbols).split()
    return (fractions[:, [ELEMENTS.index(symbol) for symbol in wanted]] > 0).any(axis=1)


CHEMISTRIES: dict[str, Callable[[np.ndarray, np.ndarray], Rows]] = {
    "nitrides": lambda x, _: holds(x, "N"),
    "fluorides": lambda x, _: holds(x, "F"),
    "titanium": lambda x, _: holds(x, "Ti"),
    "f-elements": lambda x, _: holds(x, "f"),
    "nitrides of d-elements": lambda x, _: holds(x, "N") & holds(x, "d"),
    "oxides of f-elements": lambda x, _: holds(x, "O") & holds(x, "f"),
    "borides and carbides of d-elements": lambda x, _: holds(x, "B C") & holds(x, "d"),
    "lithium with oxygen": lambda x, _: holds(x, "Li") & holds(x, "O"),
    "four elements or more": lambda x, _: (x > 0).sum(axis=1) >= 4,
    "greatest 5 % of values": lambda _, y: y > np.quantile(y, 1 - TOP_SHARE),
}


def development_splits(x: np.ndarray, y: np.ndarray, seed: int) -> Iterator[tuple[str, Rows]]:
    """Other ways to leave something out: clusters, elements, pairs of an element and a group, the greatest values."""
    from sklearn.cluster import KMeans

    from crossprop.uncertainty.neighbours import CompositionSpace

    rng = np.random.default_rng(seed)
    cluster = KMeans(12, n_init=1, random_state=seed).fit_predict(CompositionSpace.fit(x).points(x))
    found: dict[str, list[tuple[str, Rows]]] = {
        "cluster": [(f"cluster {i}", cluster == i) for i in range(12)],
        "element": [(f"element {e}", holds(x, e)) for e in ELEMENTS],
        "pair": [(f"pair {e}-{g}", holds(x, e) & holds(x, g)) for e in ELEMENTS for g in GROUPS],
    }
    for kind, splits in found.items():
        fitting = [s for s in splits if max(0.01 * len(x), LEAST_ROWS) <= s[1].sum() <= 0.15 * len(x)]
        if kind == "pair":  # both are known without each other, or it would be another element left out
            fitting = [s for s in fitting if s[1].sum() < 0.6 * holds(x, s[0].split()[1].split("-")[0]).sum()]
        for i in rng.permutation(len(fitting))[:4]:
            yield fitting[i]
    yield "three elements", (x > 0).sum(axis=1) >= 3
    yield "greatest values", y > np.quantile(y, 1 - TOP_SHARE)


def learn(frame: pd.DataFrame, away: Rows, most: int, seed: int) -> pd.DataFrame | None:
    """Evidence of a model that has not seen the rows ``away``; those stand in it with split "away".

    Args:
        frame: Columns formula, composition, value.
        away: Which rows are held out, shape (n,).
        most: Rows that are learnt from, at most.
        seed: Of the draw, the folds and the trees.
    """
    rng = np.random.default_rng(seed)
    keys = frame["composition"].to_numpy()
    away = np.isin(keys, keys[away])  # polymorphs go with their composition
    others = rng.permutation(np.unique(keys[~away]))
    at_random = np.isin(keys, others[: int(len(others) * RANDOM_SHARE)])
    learning = rng.permutation(np.flatnonzero(~away & ~at_random))[:most]
    if away.sum() < LEAST_ROWS or len(learning) < 5 * LEAST_ROWS:
        return None
    tested = np.flatnonzero(away | at_random)
    tested = np.sort(rng.permutation(tested)[:most])
    fractions = fraction_matrix(frame["formula"])
    attributes = physical_attributes(fractions).astype(np.float32)
    y = frame["value"].to_numpy(float)
    single, errors, members = np.zeros(len(learning)), [], []
    for number, (fit, validate) in enumerate(cross_validation_folds(keys[learning], FOLDS, seed)):
        transform = TargetTransform.fit(y[learning[fit]])
        model = build_regressor("extra_trees", HYPERPARAMETERS, seed + number)
        model.fit(attributes[learning[fit]], transform.forward(y[learning[fit]]))
        single[validate] = transform.inverse(model.predict(attributes[learning[validate]]))
        errors.append(np.abs(single[validate] - y[learning[validate]]).mean())
        members.append(transform.inverse(model.predict(attributes[tested])))
    mean, best = np.mean(members, axis=0), members[int(np.argmin(errors))]
    rows = np.concatenate([learning, tested])
    return pd.DataFrame(
        {
            "formula": frame["formula"].to_numpy()[rows],
            "composition": keys[rows],
            "split": ["train"] * len(learning) + ["away" if out else "test" for out in away[tested]],
            "y_true": y[rows],
            "y_pred": np.concatenate([single, mean]),
            "y_pred_single": np.concatenate([single, best]),
            "spread": np.concatenate([np.zeros(len(single)), np.std(members, axis=0)]),
        }
    )


def splits_of(frame: pd.DataFrame, development: bool, seed: int) -> Iterator[tuple[str, pd.DataFrame, Rows]]:
    """Names, rows and what is held out of them."""
    x, y = fraction_matrix(frame["formula"]), frame["value"].to_numpy(float)
    chosen = {name: rule(x, y) for name, rule in CHEMISTRIES.items()}
    if not development:
        for name, rows in chosen.items():
            yield name, frame, rows
        return
    left = ~np.any(list(chosen.values()), axis=0) & (frame["split"] == "train").to_numpy()
    for name, rows in development_splits(x[left], y[left], seed):
        yield name, frame[left], rows


def main() -> None:
    """Learn what is not learnt yet, judge all of it, write tables and a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/prepared/jarvis"), help="prepared targets")
    parser.add_argument("--out", type=Path, default=Path("held-out-chemistry"), help="what is learnt, and log")
    parser.add_argument("--report", type=Path, help="where tables and figure go; as --out if not given")
    parser.add_argument("--targets", nargs="+", help="others than those of the study")
    parser.add_argument("--development", action="store_true", help="clusters and pairs of the other rows")
    parser.add_argument("--most", type=int, default=8000, help="rows that a model learns from, at most")
    given = parser.parse_args()
    part = "development" if given.development else "study"
    stored = given.out / part
    stored.mkdir(parents=True, exist_ok=True)

    def tell(text: str) -> None:
        print(text, flush=True)
        with (given.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(text + "\n")

    begun = time.monotonic()
    for target in given.targets or (*TARGETS, *(FURTHER if given.development else ())):
        frame = pd.read_parquet(given.data / f"{target}.parquet")
        for name, rows, away in splits_of(frame, given.development, DEFAULT_SEED):
            path = stored / f"{target}~{name}.parquet"
            if path.exists():
                continue
            evidence = learn(rows.reset_index(drop=True), away, given.most, DEFAULT_SEED)
            if evidence is None:
                tell(f"{target}, {name}: too few rows ({away.sum()} of {len(away)} held out), left out")
                continue
            draft = path.with_suffix(".tmp")
            evidence.to_parquet(draft, index=False)
            draft.rename(path)
            errors = (evidence["y_true"] - evidence["y_pred"]).abs().groupby(evidence["split"]).mean()
            tell(f"{target}, {name}: MAE held out {errors['away']:.4g}, at random {errors['test']:.4g} "
                 f"({time.monotonic() - begun:,.0f} s)")  # fmt: skip
    judged = judged_runs(sorted(stored.glob("*.parquet")))
    for line in write_report(judged, given.report or given.out, part):
        tell(line)


if __name__ == "__main__":
    main()
