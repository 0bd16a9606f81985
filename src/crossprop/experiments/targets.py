"""A stage's work: from the prepared files of some targets to their written results, in one pool of workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.errors import CellError, ConfigError, DataError, StoreError
from crossprop.experiments.executor import Failure, WorkerPool
from crossprop.experiments.fingerprint import data_digest
from crossprop.experiments.grid import Cell, enumerate_cells
from crossprop.experiments.inputs import TargetFiles
from crossprop.experiments.pretrain import NETWORK_FILE, load_provenance
from crossprop.experiments.progress import Print, Progress, show
from crossprop.experiments.results import BackgroundRecorder, CellRecorder
from crossprop.experiments.scheduler import TargetRun
from crossprop.experiments.selection import category_of
from crossprop.experiments.tasks import run_work
from crossprop.experiments.winners import TargetOutcome, planned_refits, write_target
from crossprop.methods import Side
from crossprop.paths import StudyPaths

RecorderFactory = Callable[[dict[str, str]], CellRecorder]
"""Takes the digest of every target's prepared table; called once, before the first cell is recorded."""

PoolFactory = Callable[..., Any]
"""Makes what does the tasks: :class:`~crossprop.experiments.executor.WorkerPool`, or one with the same face."""

AHEAD = 1e6
"""Seconds by which the pieces of an earlier target come before those of a later one."""


def run_target(
    params: Params, target: str, paths: StudyPaths, recorder: RecorderFactory, write: Print = show
) -> TargetOutcome:
    """Compute all cells of one target and write its results folder; see :func:`run_targets`."""
    return run_targets(params, [target], paths, recorder, write)[target]


def run_targets(
    params: Params,
    targets: Sequence[str],
    paths: StudyPaths,
    recorder: RecorderFactory,
    write: Print = show,
    *,
    units: Mapping[str, str] = MappingProxyType({}),
    pool: PoolFactory | None = None,
) -> dict[str, TargetOutcome]:
    """Compute all cells of some targets side by side and write their results folders.

    Pieces of the first target come first; the others fill the workers that it leaves idle.

    Args:
        params: Configuration.
        targets: Some of the study's targets.
        paths: Where the study's files lie.
        recorder: Makes what the cells are recorded by.
        write: Receives lines of progress.
        units: Units of targets that are in no catalogue.
        pool: Makes what does the tasks; worker processes unless told.

    Returns:
        What became of each target.

    Raises:
        ConfigError: The study has no such target.
        DataError: A prepared table is missing or damaged.
        CellError: Not one cell of a target could be computed, or a model of its winner is gone for good; the other
            targets are written all the same.
        StoreError: Another process works on one of the targets, or results cannot be written.
    """
    if strange := [target for target in targets if target not in params.study.targets]:
        raise ConfigError(
            f"{', '.join(map(repr, strange))} is no target of the study {params.study.name}: "
            f"{list(params.study.targets)}."
        )
    with ExitStack() as stack:
        for target in targets:
            _lock(stack, params, target, paths)
        try:
            outcomes, hopeless = _run(params, targets, paths, recorder, write, units, pool or WorkerPool)
        except OSError as error:
            raise StoreError(f"{error}. Free some space or mend the permissions, then run again.") from error
    if hopeless:
        raise CellError("; ".join(hopeless))
    return outcomes


def plan_target(
    params: Params, target: str, paths: StudyPaths, unit: str | None = None
) -> tuple[list[Cell], TargetFiles, pd.DataFrame]:
    """The target's cells with their identities, where their inputs lie, and the prepared table.

    Args:
        params: Configuration.
        target: One of the study's targets.
        paths: Where the study's files lie.
        unit: The target's unit; as in the catalogue unless given.
    """
    study = params.study
    prepared, frame = _read_prepared(paths, target)
    folders = {s: paths.source_model(s) for s in study.elemnet_sources}
    folders |= {name: paths.joint_model(name) for name in study.joint}
    digests = {s: load_provenance(folder)["weights_sha256"] for s, folder in folders.items()}
    unit = load_catalog().property(target).unit if unit is None else unit
    cells = enumerate_cells(params, target, unit, data_digest(frame), digests)
    files = TargetFiles(
        prepared=prepared,
        features=paths.features(target),
        networks=tuple((s, folder / NETWORK_FILE) for s, folder in folders.items()),
        activations=paths.activations(target),
    )
    return cells, files, frame


def _lock(stack: ExitStack, params: Params, target: str, paths: StudyPaths) -> None:
    lock = paths.lock(target)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        stack.enter_context(FileLock(lock, timeout=0))
    except Timeout:
        raise StoreError(
            f"Another process works on {params.study.name}/{target} already ({lock} is held). Wait for it, or stop it."
        ) from None
    except OSError as error:
        raise StoreError(f"{error}. Free some space or mend the permissions, then run again.") from error


def _read_prepared(paths: StudyPaths, target: str) -> tuple[Path, pd.DataFrame]:
    """The prepared table; where rows have groups, the one whose ``composition`` says what stays together."""
    path = paths.grouped(target)
    if not path.is_file():
        path = paths.prepared(target)
    try:
        return path, pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Run 'dvc repro prepare'.") from None


def _run(
    params: Params,
    targets: Sequence[str],
    paths: StudyPaths,
    recorder: RecorderFactory,
    write: Print,
    units: Mapping[str, str],
    make_pool: PoolFactory,
) -> tuple[dict[str, TargetOutcome], list[str]]:
    plans = {target: plan_target(params, target, paths, units.get(target)) for target in targets}
    digests = {target: data_digest(frame) for target, (_, _, frame) in plans.items()}
    pieces = sum(_pieces(params, target, cells) for target, (cells, _, _) in plans.items())
    progress = Progress(params.study.name, pieces, write)
    compute, outcomes, hopeless = params.compute, dict[str, TargetOutcome](), list[str]()
    with (
        make_pool(
            run_work, workers=compute.workers, backend=compute.backend, retries=compute.retries
        ) as pool,
        BackgroundRecorder(recorder(digests), write=write) as records,
    ):
        runs: dict[str, TargetRun] = {}
        for place, (target, (cells, files, _)) in enumerate(plans.items()):
            ahead = AHEAD * (len(plans) - place)

            def submit(key: tuple[Cell, str], task: Any, cost: float, ahead: float = ahead) -> None:
                pool.submit(key, task, cost + ahead)

            runs[target] = TargetRun(params, cells, files, paths, records.submit, progress, submit)
            runs[target].start()
        progress.begin(pool.workers)
        done = {target: run.conclude() for target, run in runs.items() if run.finished}
        for (cell, piece), report in pool.results():
            records.check()
            for part in report if isinstance(report, tuple) else (report,):
                progress.spent(0.0 if isinstance(part, Failure) else part.seconds)
            run = runs[cell.target]
            run.receive(cell, piece, report)
            if run.finished and cell.target not in done:
                done[cell.target] = run.conclude()
        progress.end(pool.workers)
        run_ids = records.finish()
    for target, outcome in ((target, done[target]) for target in targets if target in done):
        reasons = [o.result.failure for o in outcome.outcomes if o.result.failure is not None]
        if reasons and all(o.result.failure or o.result.method.side is Side.BLEND for o in outcome.outcomes):
            hopeless.append(
                f"not one of the {len(reasons)} cells of {params.study.name}/{target} could be computed; "
                f"the first failed with {reasons[0]}"
            )
            continue
        if outcome.model is not None and outcome.model.missing:
            hopeless.append(
                f"models of the winner of {params.study.name}/{target} are gone and could not be fitted again: "
                f"{', '.join(outcome.model.missing)}. Run the stage again"
            )
            continue
        write_target(outcome, run_ids, plans[target][1], paths.results(target))
        runs[target].drop_models(outcome.winners)
        outcomes[target] = outcome
    return outcomes, hopeless


def _pieces(params: Params, target: str, cells: list[Cell]) -> int:
    blends = sum(cell.method.side is Side.BLEND for cell in cells)
    learning = [cell for cell in cells if cell.method.side is not Side.BLEND]
    halved = params.study.fidelity is not None
    validated = {cell.method if halved else category_of(cell) for cell in learning}
    folds = params.study.folds_of(target) * len(validated)
    return len(learning) + blends + folds + planned_refits(params.study, target)
