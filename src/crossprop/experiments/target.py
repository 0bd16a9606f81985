"""One target's stage: from prepared files to written results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.errors import CellError, ConfigError, DataError, StoreError
from crossprop.experiments.cells import Cell, enumerate_cells
from crossprop.experiments.fingerprint import data_digest
from crossprop.experiments.inputs import TargetFiles
from crossprop.experiments.outputs import write_target
from crossprop.experiments.progress import Print, Progress, show
from crossprop.experiments.results import CellRecorder
from crossprop.experiments.runner import TargetOutcome, TargetRun, fold_models
from crossprop.experiments.sources import NETWORK_FILE, load_provenance
from crossprop.experiments.store import CellStore
from crossprop.paths import StudyPaths

RecorderFactory = Callable[[pd.DataFrame, str], CellRecorder]
"""Takes the prepared table and its digest; called once, before the first cell is recorded."""


def run_target(
    params: Params,
    target: str,
    paths: StudyPaths,
    recorder: RecorderFactory,
    write: Print = show,
) -> TargetOutcome:
    """Compute all cells of one target and write its results folder.

    Args:
        params: Configuration.
        target: One of the study's targets.
        paths: Where the study's files lie.
        recorder: Makes what the cells are recorded by.
        write: Receives lines of progress.

    Raises:
        ConfigError: The study has no such target.
        DataError: The prepared table is missing or damaged.
        CellError: Not one cell could be computed.
        StoreError: Another process works on this target, or results cannot be written.
    """
    if target not in params.study.targets:
        raise ConfigError(
            f"{target!r} is no target of the study {params.study.name}: {list(params.study.targets)}."
        )
    lock = paths.lock(target)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            return _run(params, target, paths, recorder, write)
    except Timeout:
        raise StoreError(
            f"Another process works on {params.study.name}/{target} already ({lock} is held). Wait for it, or stop it."
        ) from None
    except OSError as error:
        raise StoreError(f"{error}. Free some space or mend the permissions, then run again.") from error


def plan_target(
    params: Params, target: str, paths: StudyPaths
) -> tuple[list[Cell], TargetFiles, pd.DataFrame]:
    """The target's cells with their identities, where their inputs lie, and the prepared table."""
    frame = _read_prepared(paths.prepared(target))
    digests = {s: load_provenance(paths.source_model(s))["weights_sha256"] for s in params.study.sources}
    unit = load_catalog().property(target).unit
    cells = enumerate_cells(params, target, unit, data_digest(frame), digests)
    files = TargetFiles(
        prepared=paths.prepared(target),
        features=paths.features(target),
        networks=tuple((s, paths.source_model(s) / NETWORK_FILE) for s in params.study.sources),
        activations=paths.activations(target),
    )
    return cells, files, frame


def _read_prepared(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Run 'dvc repro prepare'.") from None


def _run(
    params: Params, target: str, paths: StudyPaths, recorder: RecorderFactory, write: Print
) -> TargetOutcome:
    cells, files, frame = plan_target(params, target, paths)
    n_folds = params.study.folds_of(target) * len({cell.method for cell in cells})
    progress = Progress(f"{params.study.name}/{target}", cells[0].unit, len(cells) + n_folds, write)
    outcome = TargetRun(params, cells, files, paths, recorder(frame, data_digest(frame)), progress).run()
    reasons = [o.result.failure for o in outcome.outcomes if o.result.failure is not None]
    if len(reasons) == len(outcome.outcomes):
        raise CellError(
            f"not one of the {len(cells)} cells of {params.study.name}/{target} could be computed; "
            f"the first failed with {reasons[0]}"
        )
    write_target(outcome, cells, fold_models(outcome, cells, paths), files, paths.results(target))
    winner, store = outcome.winners.winner, CellStore(paths)
    for cell in cells:
        if winner is None or cell.id != winner.cell:
            store.drop_models(cell)
    return outcome
