"""Pretrains a source network on a large data set and keeps it with its provenance."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Params, Recipe
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
from crossprop.models.fitted import network_outputs, save_network, standardised
from crossprop.models.networks import initial_weights
from crossprop.models.saved import SCALING_FILE
from crossprop.models.target_transform import TargetTransform
from crossprop.models.transfer import check_network, weights_digest
from crossprop.paths import StudyPaths
from crossprop.training.checkpoint import Checkpoint
from crossprop.training.device import configure, peak_memory, precision_of
from crossprop.training.trainer import NetworkTrainer, descend, feature_scaling, suited

NETWORK_FILE = "network.keras"
PROVENANCE_FILE = "provenance.json"
HISTORY_FILE = "history.csv"
ATTEMPTS = 3  # to train a network, each with a third of the learning rate of the one before
COLLAPSED = 0.95  # validation MAE over that of the median above which a network counts as collapsed
JUDGED_FROM = 300  # steps before which a network may still be near the median


def pretrain(
    params: Params, name: str, units: Mapping[str, str], paths: StudyPaths, write: Print = show
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train and save the ElemNet of a source, by ``study.pretrain``, or a network of ``study.joint``, 90:10.

    A deep network without normalisation may come to predict one value, mostly on a property that is mostly zero: then
    an ElemNet starts again with a third of the learning rate, at most twice. The recipe of the provenance has the last
    one; how its least batches and steps are kept depends on the rows (:func:`suited`).
    Returns the provenance that is saved beside the network, and the history (``epoch, loss, val_mae``); of a joint
    network ``val_mae`` is the mean over the sources of the validation MAE relative to that of the median.
    """
    study, seed, joint = params.study, params.study.seed, name in params.study.joint
    if not joint and name not in study.sources:
        raise ConfigError(f"{name!r} is no source or joint network of the study: {[*study.sources, *study.joint]}.")
    configure(params.compute.backend, params.compute.workers or usable_cores())
    sources, usable = study.joint.get(name, (name,)), recipes(params, name)
    rows = source_rows(sources, paths, joint=joint)
    kind = usable[0].target_transform
    transforms = [TargetTransform.fit(column[np.isfinite(column)], kind) for column in rows.learnt.T]
    medians = _column_errors(np.tile([t.centre for t in transforms], (len(rows.features), 1)), rows.validating)
    learns = np.flatnonzero(np.isfinite(rows.learnt).any(axis=1))
    validates = np.flatnonzero(np.isfinite(rows.validating).any(axis=1))
    x, x_val, scaling = rows.features[learns], rows.features[validates], None
    if joint:
        scaling = feature_scaling(x)
        x, x_val = standardised(x, scaling), standardised(x_val, scaling)
    y = np.stack([t.forward(c) for t, c in zip(transforms, rows.learnt[learns].T, strict=True)], axis=1)
    trainer, fitting = _trainer(params), suited(usable[0], len(x))
    architecture = Architecture.RESNET if joint else Architecture.ELEMNET
    unit, of_median = ("", 1.0) if joint else (units[name], float(medians[0]))
    network, checkpoints, started = None, list[Checkpoint](), perf_counter()

    def errors() -> np.ndarray:
        outputs = network_outputs(network, x_val)
        predicted = np.stack([t.inverse(c) for t, c in zip(transforms, outputs.T, strict=True)], axis=1)
        return _column_errors(predicted, rows.validating[validates])

    def error() -> float:
        return float(np.mean(errors() / medians)) if joint else float(errors()[0])

    def on_epoch(epoch: int, mae: float) -> None:
        clock = f"[epoch {epoch}/{fitting.epochs}, {perf_counter() - started:.0f} s]"
        write(f"{name} {clock} validation MAE " + (f"{mae:.4f} of the medians'" if joint else f"{mae:.4g} {unit}"))
        warm = epoch > max(1, fitting.warmup_fraction * fitting.epochs)
        judged = warm and epoch * (len(x) // fitting.batch_size) >= JUDGED_FROM
        if judged and mae > COLLAPSED * of_median and len(checkpoints) < len(usable):
            raise CollapsedError(f"{name}: the network predicts little more than the median")

    of = f"{len(sources)} properties, " if joint else ""
    write(f"{name}: pretraining on {len(x):,} compositions, {of}{fitting.epochs} epochs")
    for attempt, recipe in enumerate(usable):
        checkpoints.append(_checkpoint(params, f"{name}_{attempt}" if attempt else name, recipe, rows.digest, paths))
        network = trainer.network(x.shape[1], recipe, architecture, len(sources))
        start, suiting = initial_weights(network, seed), suited(recipe, len(x))
        try:
            given = (x, y.astype(np.float32))
            history = descend(network, start, given, error, suiting, seed, on_epoch, checkpoints[-1])
            break
        except CollapsedError as collapsed:
            write(f"{collapsed}; starting again with a learning rate of {recipe.learning_rate / 3:.2g}")
    network = trainer.in_float32(network, recipe, architecture)
    final, reached = errors(), error()
    if joint:
        for source, mae in zip(sources, final, strict=True):
            write(f"{name}: {source} validation MAE {mae:.4g} {units[source]}")
    elif reached > COLLAPSED * of_median:
        write(
            f"{name}: the network predicts little more than the median: validation MAE {reached:.4g} {unit}, "
            f"of the median {of_median:.4g}. Raise min_steps or epochs of study.pretrain, or leave the source out"
        )
    facts: dict[str, Any] = {
        "unit": unit,
        "n_train": len(learns),
        "n_validation": len(validates),
        "validation_mae": reached,
        "validation_mae_of_median": of_median,
        "scaling": list(map(asdict, transforms)) if joint else asdict(transforms[0]),
    }
    if joint:
        by_source = {"validation_mae": final, "validation_mae_of_median": medians}
        by_source["n_train"] = np.isfinite(rows.learnt).sum(axis=0)
        known = {f"{k}_by_source": dict(zip(sources, v.tolist(), strict=True)) for k, v in by_source.items()}
        facts |= {"sources": list(sources), **known}
    spent = perf_counter() - started + sum(checkpoint.earlier for checkpoint in checkpoints)
    provenance = provenance_of(params, name, network, recipe, rows.digest, facts, spent)
    write_network(paths.source_model(name), network, provenance, history, scaling)
    for checkpoint in checkpoints:
        checkpoint.remove()
    return provenance, history


def recipes(params: Params, name: str) -> list[Recipe]:
    """The recipes that a network may have learnt by: the given one, and those that follow a collapse of an ElemNet."""
    if name in params.study.joint:
        assert params.study.joint_pretrain is not None  # the configuration guarantees it beside a joint network
        return [params.study.joint_pretrain]
    recipe = params.study.pretrain
    rates = [recipe.learning_rate / 3**attempt for attempt in range(ATTEMPTS)]
    return [recipe.model_copy(update={"learning_rate": rate}) for rate in rates]


def _trainer(params: Params) -> NetworkTrainer:
    """A trainer for long fits. XLA gains where layers learn in float32, and loses where they learn in bfloat16."""
    precision = precision_of(params.compute.precision)
    return NetworkTrainer(jit=precision == "float32", precision=precision)


def _checkpoint(params: Params, name: str, recipe: Recipe, data_sha256: str, paths: StudyPaths) -> Checkpoint:
    """The checkpoint of one network, valid for the same data, recipe, code, precision and packages only."""
    facts = [name, recipe.model_dump(mode="json"), params.study.seed, params.compute.model_dump(mode="json")]
    facts += [data_sha256, code_digest(OF_NETWORKS), _versions(params)]
    return Checkpoint(paths.checkpoint(name), digest(facts))


def _versions(params: Params) -> dict[str, str]:
    """What a network learns with: backend, precision on this processor, and packages."""
    backend = params.compute.backend
    packages = package_versions("keras", "numpy", backend)
    return {"backend": backend, "precision": precision_of(params.compute.precision), **packages}


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
        "versions": _versions(params),
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
class SourceRows:
    """The rows of one source, with fractions, or of several, one per composition, with attributes beside them.

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


def source_rows(sources: tuple[str, ...], paths: StudyPaths, *, joint: bool = True) -> SourceRows:
    """Bring the prepared sources together by composition, which has the same role in every one of them."""
    known, features, tables = pd.Index([], dtype=object), list[np.ndarray](), dict[str, str]()
    learnt, validating = dict[str, pd.Series](), dict[str, pd.Series]()
    for source in sources:
        frame, validates = _read_source(paths, source)
        tables[source] = data_digest(frame)
        keys = pd.Index(frame["composition"])
        fresh = ~keys.isin(known)
        known = known.append(keys[fresh])
        folder = paths.features(source)
        matrix = load_combined(folder) if joint else load_features(folder, Representation.ELEMENTAL_FRACTIONS)
        features.append(matrix[fresh])
        values = pd.Series(frame["value"].to_numpy(np.float64), keys)
        learnt[source], validating[source] = values[~validates], values[validates]
    to_learn, to_validate = (pd.DataFrame(values).reindex(known).to_numpy() for values in (learnt, validating))
    data_sha256 = joint_digest(tables, paths) if joint else tables[sources[0]]
    return SourceRows(np.concatenate(features), to_learn, to_validate, data_sha256)


def _column_errors(predicted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean absolute error of every column over its known values."""
    return np.asarray(np.nanmean(np.abs(predicted - values), axis=0))
