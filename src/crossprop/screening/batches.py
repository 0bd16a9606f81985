"""Where the batches of a screening are computed: by threads of this process, or by workers of a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from crossprop.config import RayConfig
from crossprop.errors import ScreeningError
from crossprop.inference.predictor import ServedModel
from crossprop.screening.pipeline import Pipeline
from crossprop.screening.request import ScreenRequest
from crossprop.training.device import THREAD_VARIABLES

GIB = 1 << 30
_OVER = 1.1

Batch = Callable[[], tuple[int, pa.Table]]
"""Waits for a batch, as :meth:`Pipeline.run` gives it."""

Workers = tuple[Callable[[int, int], Batch], Callable[[], int]]
"""Begins with the batch between two positions; tells how many are computed at a time."""


@contextmanager
def in_threads(pipeline: Pipeline, workers: int) -> Iterator[Workers]:
    """Compute batches in this process."""
    limited = threadpool_limits(limits=1)  # further threads of BLAS would only wait for cores
    with limited, ThreadPoolExecutor(workers, "screening") as threads, ExitStack() as ending:
        ending.callback(threads.shutdown, cancel_futures=True)  # after an interruption nothing more is begun
        yield lambda start, stop: threads.submit(pipeline.run, start, stop).result, lambda: workers


@contextmanager
def on_cluster(pipeline: Pipeline, request: ScreenRequest) -> Iterator[Workers]:
    """Compute batches on the Ray cluster of ``RAY_ADDRESS``, or one that is started here.

    Models reach a node once, through the object store; a worker holds them and one batch. What a worker or a node that
    died was computing is computed elsewhere. A cluster that cannot be used is a ConfigError.
    """
    from crossprop.experiments.ray_cluster import DEATHS, RayCluster, packed

    cluster = RayCluster(RayConfig(), partial(print, file=sys.stderr, flush=True), request.workers)
    ray = cluster.ray
    environment = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    run = ray.remote(num_cpus=1, max_retries=DEATHS, runtime_env=environment)(_run)

    def received(reference: Any) -> Any:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            advice = "Run the command again: what is done is kept."
            raise ScreeningError(f"A batch was lost with its worker or its node: {error}. {advice}") from error

    def submit(start: int, stop: int) -> Batch:
        named = run.options(name=f"screen {start}-{stop}")
        return partial(received, named.remote([given], request.memory, start, stop))

    try:
        files = {model.name: packed(Path(model.folder)) for model in pipeline.properties}
        given = ray.put((replace(pipeline, models={}), files))
        yield submit, cluster.workers
    finally:
        cluster.close()


def _run(given: list[Any], memory: float | None, start: int, stop: int) -> tuple[int, pa.Table]:
    """A batch on a worker, which takes no more memory (GiB) than it may."""
    result = _pipeline(given[0]).run(start, stop)
    check_memory(resident(), memory)
    return result


@lru_cache(maxsize=1)
def _pipeline(reference: Any) -> Pipeline:
    """The pipeline with its models, which a worker loads once."""
    import ray

    from crossprop.experiments.ray_cluster import unpack

    pipeline, files = ray.get(reference)
    models = {}
    with TemporaryDirectory(prefix="crossprop-") as folder:
        for name, content in files.items():
            unpack(content, Path(folder) / name)
            models[name] = ServedModel.load(Path(folder) / name, threads=1)
    return replace(pipeline, models=models)


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(psutil.Process().memory_info().rss)


def check_memory(now: int, memory: float | None) -> None:
    """Refuse to go on with so many bytes where clearly less memory, in GiB, was allowed."""
    if memory is not None and now > _OVER * memory * GIB:
        raise ScreeningError(
            f"The screening takes {now / GIB:.1f} GiB, more than --memory {memory:g} allows. Raise it or lower "
            "--batch, and run the command again: what is done is kept."
        )
