"""What the other properties of a study's targets add to a target: joint heads, cross-fitted by composition.

    python benchmarks/joint_heads.py --params params.yaml --root . --targets exfoliation_energy slme

A hash puts every composition into one of five folds. Network k starts from the study's joint source network, has one
head for every target, learns the training rows of all targets outside fold k, and predicts the compositions of fold k.
Extra trees (median over the trees) and boosted trees then read, in the same folds, at most ``--rows`` training rows of
each target. Their input is fractions beside attributes (``A``), with the outputs of the source network (``B``), with
those and the predictions of the other targets (``C``), or of all targets (``D``). ``joint`` is the target's own head,
``single`` the source network fine-tuned on this target alone, ``mean`` the mean of the two. Hold-out rows are not read.
Prints, and writes as CSV, the cross-validated MAE over that of the median.
"""

import argparse
import hashlib
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import PARAMS_FILE, Params, Recipe, load_params
from crossprop.data.splits import training_rows
from crossprop.experiments.pretrain import NETWORK_FILE
from crossprop.experiments.tasks import suited
from crossprop.features.matrices import load_combined
from crossprop.methods import Architecture
from crossprop.models.fitted import network_outputs, standardised
from crossprop.models.regressors import build_regressor
from crossprop.models.saved import SCALING_FILE
from crossprop.models.target_transform import TargetTransform
from crossprop.models.transfer import load_network, transferred_weights
from crossprop.paths import StudyPaths
from crossprop.training.device import configure, precision_of
from crossprop.training.trainer import NetworkTrainer, descend

FOLDS = 5
FOREST = {"n_estimators": 100, "max_features": 0.5, "min_samples_leaf": 2, "aggregation": "median"}
BOOSTED = {"max_iter": 300, "learning_rate": 0.07, "l2_regularization": 0.1, "max_features": 0.4}


def main() -> None:
    """Train the five networks, then fit the trees on every target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path("joint_heads.csv"))
    args = parser.parse_args()
    configure("tensorflow", 1)
    params = load_params(args.params)
    paths = StudyPaths(params.study.name, args.root)
    keys, x, y, transforms = _rows_of_all_targets(params, paths)
    digests = [hashlib.sha256(key.encode()).digest() for key in keys]
    fold = np.array([int.from_bytes(value[:8], "big") % FOLDS for value in digests])
    started = perf_counter()
    (name,) = params.study.joint
    source = load_network(paths.source_model(name) / NETWORK_FILE)
    standard = standardised(x, np.load(paths.source_model(name) / SCALING_FILE))
    of_source = network_outputs(source, standard)
    recipe = params.study.transfer.model_copy(update={"epochs": args.epochs, "learning_rate": args.learning_rate})
    of_heads = _predictions(params, source, recipe, standard, y, fold)
    print(f"five networks: {perf_counter() - started:.0f} s", flush=True)

    rows = []
    for target in args.targets:
        place = params.study.targets.index(target)
        known = chosen = np.flatnonzero(np.isfinite(y[:, place]))
        if len(known) > args.rows:
            chosen = np.random.default_rng(params.study.seed).choice(known, args.rows, replace=False)
        others = np.delete(of_heads, place, axis=1)
        inputs = {
            "A": x[chosen],
            "B": np.c_[x, of_source][chosen],
            "C": np.c_[x, of_source, others][chosen],
            "D": np.c_[x, of_source, of_heads][chosen],
        }
        transform, scaled = transforms[place], y[chosen, place]
        values = transform.inverse(scaled)

        def relative(predicted: np.ndarray, transform=transform, values=values) -> float:
            of_median = np.abs(values - np.median(values)).mean()
            return float(np.abs(transform.inverse(predicted) - values).mean() / of_median)

        alone = suited(params.study.transfer, len(known))
        single = np.full(len(x), np.nan)
        single[known] = _predictions(params, source, alone, standard[known], y[known][:, [place]], fold[known])[:, 0]
        row = {
            "target": target,
            "rows": len(chosen),
            "joint": relative(of_heads[chosen, place]),
            "single": relative(single[chosen]),
            "mean": relative((of_heads[chosen, place] + single[chosen]) / 2),
        }
        for name, matrix in inputs.items():
            for algorithm, hyperparameters in (("extra_trees", FOREST), ("hist_gradient_boosting", BOOSTED)):
                predicted = np.empty(len(chosen))
                for k in range(FOLDS):
                    held = fold[chosen] == k
                    model = build_regressor(algorithm, hyperparameters, params.study.seed)
                    predicted[held] = model.fit(matrix[~held], scaled[~held]).predict(matrix[held])
                row[f"{algorithm} {name}"] = relative(predicted)
        rows.append(row)
        pd.DataFrame(rows).to_csv(args.out, index=False, float_format="%.5g")
        print(*(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def _rows_of_all_targets(
    params: Params, paths: StudyPaths
) -> tuple[list[str], np.ndarray, np.ndarray, list[TargetTransform]]:
    """Composition keys; inputs, shape (n, 231); scaled training values, shape (n, n_targets), NaN where unknown."""
    place: dict[str, int] = {}
    inputs: list[np.ndarray] = []
    columns, transforms = [], []
    for target in params.study.targets:
        frame, matrix = pd.read_parquet(paths.prepared(target)), load_combined(paths.features(target))
        learning = training_rows(frame)
        keys, values = (
            frame["composition"].to_numpy()[learning],
            frame["value"].to_numpy(np.float64)[learning],
        )
        for row, key in zip(learning, keys, strict=True):
            if key not in place:
                place[key] = len(place)
                inputs.append(matrix[row])
        transforms.append(TargetTransform.fit(values))
        columns.append(pd.Series(transforms[-1].forward(values)).groupby(keys).mean())
    y = np.full((len(place), len(columns)), np.nan)
    for j, column in enumerate(columns):
        y[[place[key] for key in column.index], j] = column.to_numpy()
    return list(place), np.stack(inputs), y, transforms


def _predictions(
    params: Params, source: Any, recipe: Recipe, x: np.ndarray, y: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Outputs, shape (n, n_outputs), of the network that starts from ``source`` and has not learnt the row's fold."""
    trainer = NetworkTrainer(precision=precision_of(params.compute.precision))
    predicted = np.empty_like(y)
    for k in range(FOLDS):
        network = trainer.network(x.shape[1], recipe, Architecture.RESNET, y.shape[1])
        learnt, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        descend(
            network,
            transferred_weights(source, network, params.study.seed, reset_head=True),
            (x[learnt], y[learnt].astype(np.float32)),
            lambda: 0.0,  # no early stopping: nothing is validated on the way
            recipe,
            params.study.seed + k,
        )
        fitted = trainer.in_float32(network, recipe, Architecture.RESNET)
        predicted[held] = network_outputs(fitted, x[held])
    return predicted


if __name__ == "__main__":
    main()
