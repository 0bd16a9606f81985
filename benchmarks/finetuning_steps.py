"""How long fine-tuning must be: validation MAE against the steps of the schedule, for some targets of a prepared study.

    python benchmarks/finetuning_steps.py --params params.yaml --root . --source formation_energy \
        --targets exfoliation_energy slme --steps 75 150 300 --out finetuning_steps.csv

The target's training rows are split 90:10 by composition; hold-out rows are not read. A schedule knows its length
from the start, so every length is a fit of its own, from the source's weights (TL: ``finetune``) and from random ones
(SC: ``dl``), with the study's recipes for both. Prints one line a fit; writes a table (CSV) and, beside it, a figure.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from crossprop.config import PARAMS_FILE, load_params
from crossprop.data.catalog import load_catalog
from crossprop.data.splits import screening_split, training_rows
from crossprop.experiments.pretrain import NETWORK_FILE
from crossprop.experiments.tasks import suited
from crossprop.features.matrices import load_features
from crossprop.methods import Representation
from crossprop.models.networks import initial_weights
from crossprop.models.transfer import load_network, transferred_weights
from crossprop.paths import StudyPaths
from crossprop.training.device import configure, precision_of
from crossprop.training.metrics import mean_absolute_error
from crossprop.training.trainer import NetworkTrainer


def main() -> None:
    """Fit every target with every length of the schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=PARAMS_FILE)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--source", default="formation_energy")
    parser.add_argument("--targets", nargs="+", required=True)
    parser.add_argument("--steps", nargs="+", type=int, default=[75, 150, 300, 600, 1200, 2400])
    parser.add_argument("--out", type=Path, default=Path("finetuning_steps.csv"))
    args = parser.parse_args()
    configure("tensorflow", 1)
    params = load_params(args.params)
    study = params.study
    paths = StudyPaths(study.name, args.root)
    source = load_network(paths.source_model(args.source) / NETWORK_FILE)
    trainer, seed, rows = NetworkTrainer(precision=precision_of(params.compute.precision)), study.seed, []
    for target in args.targets:
        frame = pd.read_parquet(paths.prepared(target))
        learning = training_rows(frame)
        x = np.asarray(load_features(paths.features(target), Representation.ELEMENTAL_FRACTIONS))[learning]
        y = frame["value"].to_numpy(np.float64)[learning]
        train, validation = screening_split(frame["composition"].to_numpy()[learning], seed)
        of_median = float(np.abs(y[validation] - np.median(y[train])).mean())
        for name, recipe in (("TL", study.transfer), ("SC", study.scratch)):
            for steps in args.steps:
                least = recipe.model_copy(update={"epochs": 1, "min_steps": steps})
                started = perf_counter()
                model, _ = trainer.fit(
                    x[train],
                    y[train],
                    (x[validation], y[validation]),
                    suited(least, len(train), steps),
                    lambda network, name=name: (
                        transferred_weights(source, network, seed, reset_head=False)
                        if name == "TL"
                        else initial_weights(network, seed)
                    ),
                    seed,
                    standardise=False,
                )
                mae = mean_absolute_error(y[validation], model.predict(x[validation]))
                row = {
                    "target": load_catalog().property(target).label, "rows": len(train), "fit": name, "steps": steps,
                    "validation_mae": mae, "relative": mae / of_median, "seconds": perf_counter() - started,
                }  # fmt: skip
                rows.append(row)
                pd.DataFrame(rows).to_csv(args.out, index=False, float_format="%.5g")
                print(
                    " ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()),
                    flush=True,
                )
    _draw(pd.DataFrame(rows), args.out.with_suffix(".png"))


def _draw(table: pd.DataFrame, path: Path) -> None:
    """Validation MAE relative to that of the median against steps, a panel for each target."""
    from matplotlib.figure import Figure

    targets = list(table["target"].unique())
    figure = Figure(figsize=(3.0 * len(targets), 3.0), layout="constrained")
    for axes, target in zip(figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True):
        for name, marker in (("SC", "o"), ("TL", "s")):
            of_fit = table[(table["target"] == target) & (table["fit"] == name)]
            axes.plot(of_fit["steps"], of_fit["relative"], marker=marker, label=name)
        axes.set(xscale="log", xlabel="steps of the schedule", title=f"{target}, {of_fit['rows'].iloc[0]:,} rows")
    figure.axes[0].set_ylabel("validation MAE / MAE of the median")
    figure.axes[0].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
