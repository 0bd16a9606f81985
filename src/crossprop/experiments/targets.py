"""A stage's work: from the prepared files of some targets to their written results, in one pool of workers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType

import pandas as pd

from crossprop.config import ComputeConfig, Params
from crossprop.data.catalog import load_catalog
from crossprop.errors import CellError, DataError, StoreError
from crossprop.experiments.executor import Executor, Failure, WorkerPool
from crossprop.experiments.fingerprint import data_digest
from crossprop.experiments.grid import Cell, enumerate_cells
from crossprop.experiments.inputs import TargetFiles, source_network, target_inputs
from crossprop.experiments.pretrain import NETWORK_FILE, load_provenance
from crossprop.experiments.progress import Print, Progress, show
from crossprop.experiments.results import BackgroundRecorder, Recorder
from crossprop.experiments.scheduler import TargetRun
from crossprop.experiments.tasks import FoldTask, ScreenTask, run_task
from crossprop.experiments.winners import TargetOutcome, write_target
from crossprop.features.matrices import check_features
from crossprop.io import exclusive
from crossprop.methods import Side
from crossprop.models.transfer import check_network
from crossprop.paths import StudyPaths

RecorderFactory = Callable[[dict[str, str]], Recorder]
"""Takes the digest of every target's prepared table; called once, before the first cell is recorded."""

AHEAD = 1e6  # seconds by which the tasks of an earlier target come before those of a later one


def run_targets(
    params: Params,
    targets: Sequence[str],
    paths: StudyPaths,
    recorder: RecorderFactory,
    write: Print = show,
    *,
    units: Mapping[str, str] = MappingProxyType({}),
    pool: Callable[..., Executor] | None = None,
    planned: float | None = None,
) -> dict[str, TargetOutcome]:
    """Compute all cells of some targets of a study side by side and write their results folders.

    Tasks of the first target come first; the others fill the workers that it leaves idle. ``units`` are those of
    targets that are in no catalogue, ``pool`` makes the executor, by default that of ``compute``; ``planned`` are the
    seconds that all of it should take, where they are known. Where not one cell of a target could be computed, or a
    model of its winner is gone for good, the other targets are written all the same before the CellError; a target that
    another process works on, or results that cannot be stored, are a StoreError.
    """
    target_inputs.cache_clear()  # files may have changed since an earlier call in this process
    source_network.cache_clear()
    compute, failures = params.compute, list[str]()
    runs, done = dict[str, TargetRun](), dict[str, TargetOutcome]()
    try:
        with ExitStack() as stack:
            for target in targets:
                stack.enter_context(exclusive(paths.lock(target), f"works on {params.study.name}/{target}"))
            plans = {target: plan_target(params, target, paths, units.get(target)) for target in targets}
            digests = {target: data_digest(frame) for target, (_, _, frame) in plans.items()}
            for _, files, _ in plans.values():
                check_features(files.features)
            for folder in {network.parent for _, files, _ in plans.values() for _, network in files.networks}:
                check_network(folder)
            executor = (pool or _pool(compute, write))(
                run_task, workers=compute.workers, backend=compute.backend, retries=compute.retries
            )
            with executor, BackgroundRecorder(recorder(digests), write=write) as records:
                progress = Progress(params.study.name, write, planned)
                for place, (target, (cells, files, _)) in enumerate(plans.items()):
                    ahead = AHEAD * (len(plans) - place)

                    def submit(task: ScreenTask | FoldTask, cost: float, ahead: float = ahead) -> None:
                        executor.submit(task, cost + ahead)

                    runs[target] = TargetRun(params, cells, files, paths, records.submit, progress, submit)
                    runs[target].advance()
                progress.begin(executor.workers)
                done |= {target: run.conclude() for target, run in runs.items() if run.finished}
                for task, report in executor.results():
                    progress.spent(0.0 if isinstance(report, Failure) else report.seconds, executor.workers)
                    target = task.cell.target
                    runs[target].receive(task, report)
                    records.check()
                    if runs[target].finished and target not in done:
                        done[target] = runs[target].conclude()
                progress.end()
                run_ids = records.finish()
            for target, outcome in done.items():
                if reason := _failure(f"{params.study.name}/{target}", outcome):
                    failures.append(reason)
                    continue
                write_target(outcome, run_ids, plans[target][1], paths.results(target))
                runs[target].drop_models(outcome.winners)
    except OSError as error:
        raise StoreError(f"{error}. Free some space or correct the permissions, then run again.") from error
    if failures:
        raise CellError("; ".join(failures))
    return done


def _pool(compute: ComputeConfig, write: Print) -> Callable[..., Executor]:
    """What makes the executor of a configuration."""
    if compute.executor == "local":
        return WorkerPool
    from crossprop.experiments.ray_executor import RayPool

    return partial(RayPool, cluster=compute.ray, write=write)


def plan_target(
    params: Params, target: str, paths: StudyPaths, unit: str | None = None
) -> tuple[list[Cell], TargetFiles, pd.DataFrame]:
    """The target's cells, where their inputs are stored, and the prepared table, with groups if rows have any."""
    study = params.study
    prepared = paths.prepared(target)
    try:
        frame = pd.read_parquet(prepared)
    except (OSError, ValueError) as error:
        raise DataError(f"{prepared} cannot be read: {error}. Run 'dvc repro prepare'.") from None
    folders = {name: paths.source_model(name) for name in (*study.elemnet_sources, *study.joint)}
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


def _failure(name: str, outcome: TargetOutcome) -> str | None:
    """Why a target cannot be written, if so."""
    reasons = [o.result.failure for o in outcome.outcomes if o.result.failure is not None]
    if reasons and all(o.result.failure or o.result.method.side is Side.BLEND for o in outcome.outcomes):
        return f"not one of the {len(reasons)} cells of {name} could be computed; the first failed with {reasons[0]}"
    if missing := [model for part in outcome.parts for model in part.missing]:
        return (
            f"models of the winner of {name} are gone and could not be fitted again: {', '.join(missing)}. "
            "Run the stage again"
        )
    return None
