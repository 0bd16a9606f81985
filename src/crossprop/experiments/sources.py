"""Pretrains a source network on a large data set and keeps it with its provenance."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

from crossprop.config import Params, Recipe
from crossprop.data.splits import training_rows
from crossprop.errors import DataError, ModelFormatError
from crossprop.experiments.fingerprint import code_digest, data_digest, digest
from crossprop.experiments.folders import replaced_whole
from crossprop.experiments.pool import usable_cores
from crossprop.experiments.progress import Print, show
from crossprop.features.matrices import load_features
from crossprop.models.elemnet import initial_weights
from crossprop.models.fitted import save_network
from crossprop.models.joint import SCALING_FILE
from crossprop.models.transfer import weights_digest
from crossprop.paths import StudyPaths
from crossprop.training.device import configure, peak_memory
from crossprop.training.fit import NetworkTrainer
from crossprop.training.metrics import mean_absolute_error
from crossprop.vocabulary import Representation

NETWORK_FILE = "network.keras"
PROVENANCE_FILE = "provenance.json"
HISTORY_FILE = "history.csv"


def pretrain_source(
    params: Params, source: str, unit: str, paths: StudyPaths, write: Print = show
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train ElemNet on one source property, 90:10, and save it.

    Args:
        params: Configuration; ``study.pretrain`` is the recipe.
        source: Property key.
        unit: The property's unit.
        paths: Where the study's files lie.
        write: Receives lines of progress.

    Returns:
        The provenance that is saved beside the network, and the history (``epoch, loss, val_mae``).

    Raises:
        DataError: The prepared table has no validation rows.
        StoreError: The network cannot be written.
    """
    configure(params.compute.backend, params.compute.workers or usable_cores())
    frame = pd.read_parquet(paths.prepared(source))
    fractions = np.asarray(load_features(paths.features(source), Representation.ELEMENTAL_FRACTIONS))
    values = frame["value"].to_numpy(np.float64)
    train = training_rows(frame)
    validation = np.flatnonzero((frame["split"] == "validation").to_numpy())
    if not len(validation):
        raise DataError(f"{paths.prepared(source)} has no validation rows. Run 'dvc repro prepare' again.")

    recipe, seed = params.study.pretrain, params.study.seed
    write(f"{source}: pretraining on {len(train):,} compositions, {recipe.epochs} epochs")
    started = perf_counter()
    model, history = NetworkTrainer(jit=True).fit(
        fractions[train],
        values[train],
        (fractions[validation], values[validation]),
        recipe,
        lambda network: initial_weights(network, seed),
        seed,
        standardise=False,
        on_epoch=lambda epoch, mae: write(
            f"{source} [epoch {epoch}/{recipe.epochs}, {perf_counter() - started:.0f} s] "
            f"validation MAE {mae:.4g} {unit}"
        ),
    )
    assert model.transform is not None
    median = float(np.median(values[train]))
    facts = {
        "unit": unit,
        "n_train": len(train),
        "n_validation": len(validation),
        "validation_mae": mean_absolute_error(values[validation], model.predict(fractions[validation])),
        "validation_mae_of_median": float(np.abs(values[validation] - median).mean()),
        "scaling": model.transform.as_dict(),
    }
    provenance = provenance_of(
        params, source, model.body, recipe, data_digest(frame), facts, perf_counter() - started
    )
    write_network(paths.source_model(source), model.body, provenance, history)
    return provenance, history


def provenance_of(
    params: Params,
    name: str,
    network: Any,
    recipe: Recipe,
    data_sha256: str,
    facts: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """What is known about a network that was just trained: its own facts, and what is said of every one.

    Args:
        params: Configuration.
        name: Its source, or its name among the joint networks.
        network: The trained network.
        recipe: How it was trained.
        data_sha256: Digest of the rows.
        facts: Unit, rows, errors and scaling.
        seconds: How long it took.
    """
    provenance: dict[str, Any] = {
        "study": params.study.name,
        "source": name,
        "edition": params.study.edition,
        **facts,
        "recipe": recipe.model_dump(mode="json"),
        "seed": params.study.seed,
        "data_sha256": data_sha256,
        "weights_sha256": weights_digest(network),
        "code_sha256": code_digest(),
        "versions": {
            "backend": params.compute.backend,
            **{package: importlib.metadata.version(package) for package in ("keras", "numpy")},
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
    """What is known about a saved source network.

    Raises:
        ModelFormatError: The file is missing or damaged.
    """
    try:
        values: dict[str, Any] = json.loads((folder / PROVENANCE_FILE).read_text(encoding="utf-8"))
        return values
    except (OSError, ValueError) as error:
        raise ModelFormatError(
            f"{folder} holds no readable {PROVENANCE_FILE}: {error}. Pretrain the source."
        ) from error


def write_network(
    folder: Path,
    network: Any,
    provenance: dict[str, Any],
    history: pd.DataFrame,
    scaling: np.ndarray | None = None,
) -> None:
    """Write a source network's folder, whole or not at all.

    Args:
        folder: Where it goes; replaced.
        network: The trained network.
        provenance: What is known about it.
        history: Its learning curve.
        scaling: Mean and deviation of its inputs, shape (2, n_features), where it takes standardised ones.

    Raises:
        StoreError: The folder cannot be written.
    """
    with replaced_whole(folder) as draft:
        save_network(network, draft / NETWORK_FILE)
        if scaling is not None:
            np.save(draft / SCALING_FILE, scaling, allow_pickle=False)
        (draft / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        history.to_csv(draft / HISTORY_FILE, index=False, lineterminator="\n")
