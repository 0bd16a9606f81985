"""Pretrains a source network on a large data set and keeps it with its provenance."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Params, Recipe
from crossprop.data.splits import training_rows
from crossprop.errors import CollapsedError, ConfigError, DataError, ModelFormatError
from crossprop.experiments.fingerprint import OF_NETWORKS, code_digest, data_digest, digest, package_versions
from crossprop.experiments.progress import Print, show
from crossprop.features.matrices import load_combined, load_features
from crossprop.io import (
    DIGESTS_FILE,
    atomic_folder,
    file_digest,
    read_json,
    usable_cores,
    write_digests,
    write_json,
)
from crossprop.methods import Architecture, Representation
from crossprop.models.fitted import FittedModel, network_outputs, save_network, standardised
from crossprop.models.networks import initial_weights
from crossprop.models.saved import SCALING_FILE
from crossprop.models.target_transform import TargetTransform
from crossprop.models.transfer import check_network, weights_digest
from crossprop.paths import StudyPaths
from crossprop.training.checkpoint import Checkpoint
from crossprop.training.device import configure, peak_memory, precision_of
from crossprop.training.metrics import mean_absolute_error
from crossprop.training.trainer import NetworkTrainer, descend, feature_scaling, suited

NETWORK_FILE = "network.keras"
PROVENANCE_FILE = "provenance.json"
HISTORY_FILE = "history.csv"
ATTEMPTS = 3  # to train a network, each with a third of the learning rate of the one before
COLLAPSED = 0.95  # validation MAE over that of the median above which a network counts as collapsed
JUDGED_FROM = 300  # steps before which a network may still be near the median


def pretrain_source(
    params: Params, source: str, unit: str, paths: StudyPaths, write: Print = show
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train ElemNet on one source property, 90:10, by the recipe ``study.pretrain``, and save it.

    A deep network without normalisation may come to predict one value, mostly on a property that is mostly zero: then
    it starts again with a third of the learning rate, at most twice. The recipe of the provenance has the last one;
    how its least batches and steps are kept depends on the rows (:func:`suited`).
    Returns the provenance that is saved beside the network, and the history (``epoch, loss, val_mae``).
    """
    configure(params.compute.backend, params.compute.workers or usable_cores())
    frame, validates = _read_source(paths, source)
    fractions = np.asarray(load_features(paths.features(source), Representation.ELEMENTAL_FRACTIONS))
    values = frame["value"].to_numpy(np.float64)
    train = training_rows(frame)
    validation = np.flatnonzero(validates)
    seed = params.study.seed
    fitting = suited(params.study.pretrain, len(train))
    steps = len(train) // fitting.batch_size
    write(f"{source}: pretraining on {len(train):,} compositions, {fitting.epochs} epochs")
    started = perf_counter()
    of_median = float(np.abs(values[validation] - np.median(values[train])).mean())
    trainer = _trainer(params)

    def learn(recipe: Recipe, checkpoint: Checkpoint, *, last: bool) -> tuple[FittedModel, pd.DataFrame]:
        def on_epoch(epoch: int, mae: float) -> None:
            clock = f"[epoch {epoch}/{fitting.epochs}, {perf_counter() - started:.0f} s]"
            write(f"{source} {clock} validation MAE {mae:.4g} {unit}")
            warm = epoch > max(1, fitting.warmup_fraction * fitting.epochs) and epoch * steps >= JUDGED_FROM
            if warm and mae > COLLAPSED * of_median and not last:
                raise CollapsedError(f"{source}: the network predicts little more than the median")

        return trainer.fit(
            fractions[train],
            values[train],
            (fractions[validation], values[validation]),
            suited(recipe, len(train)),
            lambda network: initial_weights(network, seed),
            seed,
            standardise=False,
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )

    checkpoints = []
    for attempt, recipe in enumerate(recipes(params.study.pretrain)):
        name = f"{source}_{attempt}" if attempt else source
        checkpoints.append(_checkpoint(params, name, recipe, data_digest(frame), paths))
        try:
            model, history = learn(recipe, checkpoints[-1], last=attempt == ATTEMPTS - 1)
            break
        except CollapsedError as error:
            write(f"{error}; starting again with a learning rate of {recipe.learning_rate / 3:.2g}")
    assert model.transform is not None
    reached = mean_absolute_error(values[validation], model.predict(fractions[validation]))
    if reached > COLLAPSED * of_median:
        write(
            f"{source}: the network predicts little more than the median: validation MAE {reached:.4g} {unit}, "
            f"of the median {of_median:.4g}. Raise min_steps or epochs of study.pretrain, or leave the source out"
        )
    facts = {
        "unit": unit,
        "n_train": len(train),
        "n_validation": len(validation),
        "validation_mae": reached,
        "validation_mae_of_median": of_median,
        "scaling": asdict(model.transform),
    }
    spent = perf_counter() - started + sum(checkpoint.earlier for checkpoint in checkpoints)
    provenance = provenance_of(params, source, model.body, recipe, data_digest(frame), facts, spent)
    write_network(paths.source_model(source), model.body, provenance, history)
    for checkpoint in checkpoints:
        checkpoint.remove()
    return provenance, history


def recipes(recipe: Recipe) -> list[Recipe]:
    """The recipes that a source network may have learnt by: the given one, and those that follow a collapse."""
    rates = [recipe.learning_rate / 3**attempt for attempt in range(ATTEMPTS)]
    return [recipe.model_copy(update={"learning_rate": rate}) for rate in rates]


def _trainer(params: Params) -> NetworkTrainer:
    """A trainer for long fits. XLA gains where layers learn in float32, and loses where they learn in bfloat16."""
    precision = precision_of(params.compute.precision)
    return NetworkTrainer(jit=precision == "float32", precision=precision)


def _checkpoint(params: Params, name: str, recipe: Recipe, data_sha256: str, paths: StudyPaths) -> Checkpoint:
    """The checkpoint of one network, valid for the same data, recipe and code only."""
    facts = [name, recipe.model_dump(mode="json"), params.study.seed, params.compute.model_dump(mode="json")]
    return Checkpoint(paths.checkpoint(name), digest([*facts, data_sha256, code_digest(OF_NETWORKS)]))


def _read_source(paths: StudyPaths, source: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The prepared table of a source, and which of its rows validate."""
    path = paths.prepared(source)
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Run 'dvc repro prepare'.") from None
    validates = (frame["split"] == "validation").to_numpy()
    if not validates.any():
        raise DataError(f"{path} has no validation rows. Run 'dvc repro prepare' again.")
    return frame, validates


def provenance_of(
    params: Params,
    name: str,
    network: Any,
    recipe: Recipe,
    data_sha256: str,
    facts: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The provenance of a trained network: its own facts (unit, rows, errors, scaling) and those of every network."""
    provenance: dict[str, Any] = {
        "study": params.study.name,
        "source": name,
        "edition": params.study.edition,
        **facts,
        "recipe": recipe.model_dump(mode="json"),
        "seed": params.study.seed,
        "data_sha256": data_sha256,
        "weights_sha256": weights_digest(network),
        "code_sha256": code_digest(OF_NETWORKS),
        "versions": {
            "backend": params.compute.backend,
            "precision": precision_of(params.compute.precision),
            **package_versions("keras", "numpy"),
        },
        "seconds": round(seconds, 1),
        "peak_memory": peak_memory(),
    }
    return provenance | {"key": source_key(provenance)}


def source_key(provenance: dict[str, Any]) -> str:
    """Content hash of what a source network depends on."""
    facts = ("study", "source", "recipe", "seed", "data_sha256", "weights_sha256")
    return digest({name: provenance[name] for name in facts})[:16]


def load_provenance(folder: Path) -> dict[str, Any]:
    """What is known about a saved source network; ``ModelFormatError`` where that is missing or damaged."""
    if not (folder / PROVENANCE_FILE).is_file():
        raise ModelFormatError(f"{folder} holds no {PROVENANCE_FILE}. Pretrain the source, or pull its network.")
    check_network(folder, PROVENANCE_FILE)
    values: dict[str, Any] = read_json(folder / PROVENANCE_FILE)
    return values


def write_network(
    folder: Path,
    network: Any,
    provenance: dict[str, Any],
    history: pd.DataFrame,
    scaling: np.ndarray | None = None,
) -> None:
    """Write a source network's folder whole; ``scaling`` is that of its inputs, shape (2, n_features), if any."""
    with atomic_folder(folder) as draft:
        save_network(network, draft / NETWORK_FILE)
        if scaling is not None:
            np.save(draft / SCALING_FILE, scaling, allow_pickle=False)
        write_json(draft / PROVENANCE_FILE, provenance)
        history.to_csv(draft / HISTORY_FILE, index=False, lineterminator="\n")
        write_digests(draft)


@dataclass(frozen=True)
class JointRows:
    """The sources' rows, one per composition: fractions beside attributes, shape (n, 231).

    Values to learn from and to validate on have shape (n, n_sources), the sources' units, and NaN where there are none;
    ``digest`` is that of what went in.
    """

    features: np.ndarray
    learnt: np.ndarray
    validating: np.ndarray
    digest: str


def joint_digest(tables: Mapping[str, str], paths: StudyPaths) -> str:
    """SHA-256 of what a joint network learns: ``data_digest`` by source, in the order of its outputs, and matrices."""
    matrices = {source: file_digest(paths.features(source) / DIGESTS_FILE) for source in tables}
    return digest([value for source in tables for value in (tables[source], matrices[source])])


def joint_rows(sources: tuple[str, ...], paths: StudyPaths) -> JointRows:
    """Bring the prepared sources together by composition, which has the same role in every one of them."""
    place: dict[str, int] = {}
    features: list[np.ndarray] = []
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    tables: dict[str, str] = {}
    for source in sources:
        frame, validates = _read_source(paths, source)
        tables[source] = data_digest(frame)
        matrix = load_combined(paths.features(source))
        keys = frame["composition"].tolist()
        fresh = [i for i, key in enumerate(keys) if key not in place]
        for i in fresh:
            place[keys[i]] = len(place)
        features.append(matrix[fresh])
        rows = np.array([place[key] for key in keys])
        columns.append((rows, frame["value"].to_numpy(np.float64), validates))
    learnt = np.full((len(place), len(sources)), np.nan)
    validating = learnt.copy()
    for j, (rows, values, validates) in enumerate(columns):
        learnt[rows[~validates], j] = values[~validates]
        validating[rows[validates], j] = values[validates]
    return JointRows(np.concatenate(features), learnt, validating, joint_digest(tables, paths))


def pretrain_joint(
    params: Params, name: str, units: dict[str, str], paths: StudyPaths, write: Print = show
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train a network of ``study.joint`` by the recipe ``study.joint_pretrain`` and save it with its input scaling.

    Returns what :func:`pretrain_source` does; ``val_mae`` is the mean over the sources of the validation MAE relative
    to that of the median.
    """
    recipe, seed = params.study.joint_pretrain, params.study.seed
    if name not in params.study.joint or recipe is None:
        raise ConfigError(f"{name!r} is no joint network of the study: {list(params.study.joint)}.")
    configure(params.compute.backend, params.compute.workers or usable_cores())
    sources = params.study.joint[name]
    rows = joint_rows(sources, paths)
    transforms = [TargetTransform.fit(column[np.isfinite(column)], recipe.target_transform) for column in rows.learnt.T]
    medians = _column_errors(np.tile([t.centre for t in transforms], (len(rows.features), 1)), rows.validating)
    learns = np.flatnonzero(np.isfinite(rows.learnt).any(axis=1))
    validates = np.flatnonzero(np.isfinite(rows.validating).any(axis=1))
    scaling = feature_scaling(rows.features[learns])
    x, x_val = standardised(rows.features[learns], scaling), standardised(rows.features[validates], scaling)
    y = np.stack([t.forward(c) for t, c in zip(transforms, rows.learnt[learns].T, strict=True)], axis=1)
    checkpoint = _checkpoint(params, name, recipe, rows.digest, paths)
    trainer, fitting = _trainer(params), suited(recipe, len(x))
    network = trainer.network(x.shape[1], recipe, Architecture.RESNET, len(sources))

    def errors() -> np.ndarray:
        outputs = network_outputs(network, x_val)
        predicted = np.stack([t.inverse(c) for t, c in zip(transforms, outputs.T, strict=True)], axis=1)
        return _column_errors(predicted, rows.validating[validates])

    write(f"{name}: pretraining on {len(learns):,} compositions, {len(sources)} properties, {fitting.epochs} epochs")
    started = perf_counter()
    history = descend(
        network,
        initial_weights(network, seed),
        (x, y.astype(np.float32)),
        lambda: float(np.mean(errors() / medians)),
        fitting,
        seed,
        lambda epoch, relative: write(
            f"{name} [epoch {epoch}/{fitting.epochs}, {perf_counter() - started:.0f} s] "
            f"validation MAE {relative:.4f} of the medians'"
        ),
        checkpoint,
    )
    network = trainer.in_float32(network, recipe, Architecture.RESNET)
    final = errors()
    for source, error in zip(sources, final, strict=True):
        write(f"{name}: {source} validation MAE {error:.4g} {units[source]}")
    facts = {
        "sources": list(sources),
        "unit": "",
        "n_train": len(learns),
        "n_validation": len(validates),
        "validation_mae": float(np.mean(final / medians)),
        "validation_mae_of_median": 1.0,
        "validation_mae_by_source": dict(zip(sources, final.tolist(), strict=True)),
        "validation_mae_of_median_by_source": dict(zip(sources, medians.tolist(), strict=True)),
        "n_train_by_source": dict(zip(sources, np.isfinite(rows.learnt).sum(axis=0).tolist(), strict=True)),
        "scaling": list(map(asdict, transforms)),
    }
    spent = perf_counter() - started + checkpoint.earlier
    provenance = provenance_of(params, name, network, recipe, rows.digest, facts, spent)
    write_network(paths.source_model(name), network, provenance, history, scaling)
    checkpoint.remove()
    return provenance, history


def _column_errors(predicted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean absolute error of every column over its known values."""
    return np.asarray(np.nanmean(np.abs(predicted - values), axis=0))
