"""ElemNet training: the paper's recipe and ours, same network, rows and threads, in one run.

    python benchmarks/elemnet_training.py --threads 4
    python benchmarks/elemnet_training.py --time-to 10 --epochs 4 8 16      (slow: trains to the same validation MAE)
    python benchmarks/elemnet_training.py --params ../there/params.yaml --root ../there --source formation_energy

Paper's recipe (Gupta et al. 2021, Methods; Jha et al. 2018): Keras ``fit``, batch 32, Adam 1e-4, MAE of the values as
they are, Keras' own initial weights. Ours: ``NetworkTrainer`` with the recipe ``study.pretrain`` of params.yaml.
Rows: a source of that study once it is prepared, otherwise random fractions of the same shape.

``--time-to N`` trains the paper's recipe for N epochs, takes the first moment of its best validation MAE, and measures
how long ours takes to an MAE as good: ElemNet and the residual network, each with schedules of the lengths that
``--epochs`` names. A schedule knows its length from the start, so every length is a fit of its own and has a row of
its own: nothing is chosen afterwards. Compiling, evaluating and computing the attributes are part of the time.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crossprop.config import PARAMS_FILE, Recipe, load_params
from crossprop.data.compositions import ELEMENTS
from crossprop.io import usable_cores
from crossprop.methods import DEFAULT_SEED, Architecture, Representation
from crossprop.paths import StudyPaths
from crossprop.training.device import configure

PAPER_BATCH, PAPER_RATE = 32, 1e-4
Part = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Rows:
    """Features, shape (n, 86), and values, shape (n,), to train and to validate on."""

    name: str
    unit: str
    train: Part
    validation: Part


def prepared_rows(root: Path, study: str, source: str) -> Rows | None:
    """Rows of a source property, or None where the study has not been prepared in that folder."""
    import pandas as pd

    from crossprop.data.catalog import load_catalog
    from crossprop.features.matrices import load_features

    paths = StudyPaths(study, root)
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

        from crossprop.models.networks import build_elemnet

        keras.utils.set_random_seed(DEFAULT_SEED)
        self._model = build_elemnet(len(ELEMENTS))
        self._model.compile(optimizer=keras.optimizers.Adam(PAPER_RATE), loss="mae")

    def epoch(self, x: np.ndarray, y: np.ndarray) -> None:
        self._model.fit(x, y, batch_size=PAPER_BATCH, epochs=1, verbose=0)

    def error(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(np.abs(self._model.predict(x, batch_size=1024, verbose=0)[:, 0] - y).mean())


class OurSide:
    """The pretrain stage's way."""

    def __init__(self, recipe: Recipe, architecture: Architecture = Architecture.ELEMNET) -> None:
        from crossprop.training.trainer import NetworkTrainer

        self._trainer, self._recipe, self._architecture = NetworkTrainer(jit=True), recipe, architecture

    def epoch(self, x: np.ndarray, y: np.ndarray) -> None:
        self.train((x, y), (x[:1], y[:1]), self._recipe.model_copy(update={"epochs": 1}))

    def train(
        self,
        train: Part,
        validation: Part,
        recipe: Recipe,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> None:
        from crossprop.models.networks import initial_weights

        self._trainer.fit(
            *train, validation, recipe, lambda network: initial_weights(network, DEFAULT_SEED), DEFAULT_SEED,
            standardise=self._architecture is Architecture.RESNET, architecture=self._architecture, on_epoch=on_epoch,
        )  # fmt: skip


def with_attributes(rows: Rows) -> Rows:
    """The same rows, whose features are fractions beside physical attributes, shape (n, 231)."""
    from crossprop.features.magpie import physical_attributes

    def widened(part: Part) -> Part:
        fractions = np.asarray(part[0], np.float64)
        attributes = physical_attributes(fractions / fractions.sum(axis=1, keepdims=True))
        return np.concatenate([fractions, attributes], axis=1).astype(np.float32), part[1]

    return replace(rows, train=widened(rows.train), validation=widened(rows.validation))


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


def time_to(rows: Rows, recipes: list[tuple[Architecture, Recipe]], epochs: int) -> None:
    """Seconds until ours is as good on the validation rows as the paper's recipe after some epochs."""
    paper, best, at, start = PaperSide(), np.inf, 0.0, time.perf_counter()
    for epoch in range(1, epochs + 1):
        paper.epoch(*rows.train)
        error, spent = paper.error(*rows.validation), time.perf_counter() - start
        if error < best:
            best, at = error, spent
        print(
            f"paper's recipe, epoch {epoch}/{epochs}: validation MAE {error:.4g} {rows.unit}, {spent:.0f} s",
            flush=True,
        )
    ours = [(architecture, recipe, *measured_fit(rows, architecture, recipe)) for architecture, recipe in recipes]
    print(f"\nto the paper's recipe's best validation MAE, {best:.4g} {rows.unit}, which took it {at:.0f} s:")
    print(f"{'':<12}{'schedule':>12}{'as good after':>16}{'ratio':>8}{'whole schedule':>17}{'its MAE':>10}")
    for architecture, recipe, points, spent in ours:
        reached = next((seconds for seconds, error in points if error <= best), None)
        after, ratio = ("never", "") if reached is None else (f"{reached:.0f} s", f"{at / reached:.1f}")
        length, last = f"{recipe.epochs} epochs", points[-1][1]
        print(f"{architecture:<12}{length:>12}{after:>16}{ratio:>8}{spent:>15.0f} s{last:>10.4g}")


def measured_fit(rows: Rows, architecture: Architecture, recipe: Recipe) -> tuple[list[tuple[float, float]], float]:
    """Seconds and validation MAE at every evaluation of one fit of ours, and the seconds it took as a whole."""
    start = time.perf_counter()
    points: list[tuple[float, float]] = []

    def on_epoch(epoch: int, error: float) -> None:
        points.append((time.perf_counter() - start, error))
        print(f"{architecture}, epoch {epoch}/{recipe.epochs}: validation MAE {error:.4g} {rows.unit}, "
              f"{points[-1][0]:.0f} s", flush=True)  # fmt: skip

    given = with_attributes(rows) if architecture is Architecture.RESNET else rows
    OurSide(recipe, architecture).train(given.train, given.validation, recipe, on_epoch)
    return points, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=usable_cores(), help="default: all cores")
    parser.add_argument("--rows", type=int, default=8192, help="samples an epoch of the throughput part")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each side that count")
    parser.add_argument("--time-to", type=int, metavar="N", help="epochs of the paper's recipe to match")
    parser.add_argument("--epochs", type=int, nargs="+", help="lengths of our schedules; default: the recipe's")
    parser.add_argument("--params", type=Path, default=PARAMS_FILE, help="names the study and our recipes")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds data/; default: here")
    parser.add_argument("--source", help="source property to learn; default: the study's first")
    parser.add_argument("--limit", type=int, help="training rows of --time-to, a ninth as many to validate")
    given = parser.parse_args()

    params = load_params(given.params)
    configure(params.compute.backend, given.threads)
    study = params.study
    rows = prepared_rows(given.root, study.name, given.source or study.sources[0])
    rows = rows or random_rows(max(given.rows * 10 // 9 + 10, 1000))
    load = f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{rows.name}, {len(rows.train[0]):,} rows; {given.threads} threads, {params.compute.backend}; {load}")
    throughput(rows, study.pretrain, given.rows, given.rounds)
    if not given.time_to:
        return
    if given.limit:
        cut = {"train": given.limit, "validation": given.limit // 9}
        rows = replace(rows, **{name: tuple(a[:n] for a in getattr(rows, name)) for name, n in cut.items()})
    recipes = [
        (architecture, base.model_copy(update={"epochs": length}))
        for architecture, base in (
            (Architecture.ELEMNET, study.pretrain),
            (Architecture.RESNET, study.joint_pretrain or study.pretrain),
        )
        for length in given.epochs or [base.epochs]
    ]
    time_to(rows, recipes, given.time_to)


if __name__ == "__main__":
    main()
