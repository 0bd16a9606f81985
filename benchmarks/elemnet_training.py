"""ElemNet training: the paper's recipe and ours, same network, rows and threads, in one run.

    python benchmarks/elemnet_training.py --threads 4
    python benchmarks/elemnet_training.py --time-to 10      (slow: trains both to the same validation MAE)

Paper's recipe (Gupta et al. 2021, Methods; Jha et al. 2018): Keras ``fit``, batch 32, Adam 1e-4, MAE of the values as
they are, Keras' own initial weights. Ours: ``NetworkTrainer`` with the recipe ``study.pretrain`` of params.yaml.
Rows: the first source of that study once it is prepared, otherwise random fractions of the same shape.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossprop.config import Recipe, load_params
from crossprop.data.compositions import ELEMENTS
from crossprop.experiments.pool import usable_cores
from crossprop.paths import StudyPaths
from crossprop.training.device import configure
from crossprop.vocabulary import DEFAULT_SEED, Representation

PAPER_BATCH, PAPER_RATE = 32, 1e-4


@dataclass(frozen=True)
class Rows:
    """Features, shape (n, 86), and values, shape (n,), to train and to validate on."""

    name: str
    unit: str
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]


def prepared_rows(study: str, source: str) -> Rows | None:
    """Rows of a source property, or None where the study has not been prepared."""
    import pandas as pd

    from crossprop.data.catalog import load_catalog
    from crossprop.features.matrices import load_features

    paths = StudyPaths(study)
    if not (paths.prepared(source).is_file() and paths.features(source).is_dir()):
        return None
    frame = pd.read_parquet(paths.prepared(source))
    fractions = np.asarray(load_features(paths.features(source), Representation.ELEMENTAL_FRACTIONS))
    values = frame["value"].to_numpy(np.float64)
    learns = (frame["split"] == "train").to_numpy()
    return Rows(
        name=f"{source} of study {study}",
        unit=load_catalog().property(source).unit,
        train=(fractions[learns], values[learns]),
        validation=(fractions[~learns], values[~learns]),
    )


def random_rows(n: int) -> Rows:
    """Random compositions of two to four elements with a smooth, learnable value."""
    rng = np.random.default_rng(DEFAULT_SEED)
    fractions = np.zeros((n, len(ELEMENTS)), np.float32)
    for row in fractions:
        chosen = rng.choice(len(ELEMENTS), rng.integers(2, 5), replace=False)
        row[chosen] = rng.dirichlet(np.ones(len(chosen)))
    weights = rng.normal(size=(2, len(ELEMENTS)))
    values = fractions @ weights[0] - (fractions**2 @ weights[1]) ** 2
    cut = n - n // 10
    parts = [(fractions[:cut], values[:cut]), (fractions[cut:], values[cut:])]
    return Rows("random fractions (nothing is prepared)", "1", parts[0], parts[1])


class PaperSide:
    """The reference's way: one network, compiled once, ``fit`` on the values as they are."""

    def __init__(self) -> None:
        import keras

        from crossprop.models.elemnet import build_elemnet

        keras.utils.set_random_seed(DEFAULT_SEED)
        self._model = build_elemnet(len(ELEMENTS))
        self._model.compile(optimizer=keras.optimizers.Adam(PAPER_RATE), loss="mae")

    def epoch(self, x: np.ndarray, y: np.ndarray) -> None:
        self._model.fit(x, y, batch_size=PAPER_BATCH, epochs=1, verbose=0)

    def error(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(np.abs(self._model.predict(x, batch_size=1024, verbose=0)[:, 0] - y).mean())


class OurSide:
    """The pretrain stage's way."""

    def __init__(self, recipe: Recipe) -> None:
        from crossprop.training.fit import NetworkTrainer

        self._trainer, self._recipe = NetworkTrainer(jit=True), recipe

    def epoch(self, x: np.ndarray, y: np.ndarray) -> None:
        self._fit((x, y), (x[:1], y[:1]), self._recipe.model_copy(update={"epochs": 1}), None)

    def train(self, rows: Rows, on_epoch: Callable[[int, float], None]) -> None:
        self._fit(rows.train, rows.validation, self._recipe, on_epoch)

    def _fit(
        self,
        train: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray],
        recipe: Recipe,
        on_epoch: Callable[[int, float], None] | None,
    ) -> None:
        from crossprop.models.elemnet import initial_weights

        self._trainer.fit(
            *train,
            validation,
            recipe,
            lambda network: initial_weights(network, DEFAULT_SEED),
            DEFAULT_SEED,
            standardise=False,
            on_epoch=on_epoch,
        )


def throughput(rows: Rows, recipe: Recipe, n: int, rounds: int) -> None:
    """Samples per second of both sides, which take turns; the first round compiles and does not count."""
    step = np.lcm(PAPER_BATCH, recipe.batch_size)
    n = max(min(n, len(rows.train[0])) // step, 1) * step
    x, y = rows.train[0][:n], rows.train[1][:n]
    sides = {"paper": PaperSide(), "crossprop": OurSide(recipe)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side.epoch(x, y)
            seconds[name].append(time.perf_counter() - start)
    print(f"{len(x):,} samples an epoch, median of {rounds} epochs each, taken in turns")
    print(f"{'':<11}{'batch':>8}{'first epoch':>14}{'samples/s':>12}   slowest to fastest")
    rates = {}
    for name, batch in (("paper", PAPER_BATCH), ("crossprop", recipe.batch_size)):
        first, *rest = seconds[name]
        rates[name] = len(x) / float(np.median(rest))
        span = f"{len(x) / max(rest):,.0f} to {len(x) / min(rest):,.0f}"
        print(f"{name:<11}{batch:>8}{first:>12.1f} s{rates[name]:>12,.0f}   {span}")
    print(f"ratio {rates['crossprop'] / rates['paper']:.2f}")


def time_to(rows: Rows, recipe: Recipe, epochs: int) -> None:
    """Seconds until our recipe is as good on the validation rows as the paper's after some epochs."""
    paper, best, start = PaperSide(), np.inf, time.perf_counter()
    for epoch in range(1, epochs + 1):
        paper.epoch(*rows.train)
        best = min(best, paper.error(*rows.validation))
        spent = time.perf_counter() - start
        print(
            f"paper's recipe, epoch {epoch}/{epochs}: best validation MAE {best:.4g} {rows.unit}, {spent:.0f} s"
        )
    reached: list[float] = []
    start = time.perf_counter()

    def on_epoch(epoch: int, mae: float) -> None:
        now = time.perf_counter() - start
        print(f"crossprop, epoch {epoch}/{recipe.epochs}: validation MAE {mae:.4g} {rows.unit}, {now:.0f} s")
        if mae <= best:
            reached.append(now)

    OurSide(recipe).train(rows, on_epoch)
    if reached:
        print(f"{best:.4g} {rows.unit}: paper's recipe {spent:.0f} s, crossprop {reached[0]:.0f} s, "
              f"ratio {spent / reached[0]:.1f}")  # fmt: skip
    else:
        print(f"crossprop does not reach {best:.4g} {rows.unit} within its {recipe.epochs} epochs")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=usable_cores(), help="default: all cores")
    parser.add_argument("--rows", type=int, default=8192, help="samples an epoch of the throughput part")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side that count")
    parser.add_argument("--time-to", type=int, metavar="EPOCHS", help="epochs of the paper's recipe to match")
    arguments = parser.parse_args()

    params = load_params()
    configure(params.compute.backend, arguments.threads)
    recipe, study = params.study.pretrain, params.study
    rows = prepared_rows(study.name, study.sources[0]) or random_rows(
        max(arguments.rows * 10 // 9 + 10, 1000)
    )
    load = _load()
    print(f"{rows.name}; {arguments.threads} threads, {params.compute.backend}{load}")
    throughput(rows, recipe, arguments.rows, arguments.rounds)
    if arguments.time_to:
        time_to(rows, recipe, arguments.time_to)


def _load() -> str:
    return f"; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
