"""The executor of a Ray cluster: the same tasks on workers of many nodes, without a shared file system.

Inputs reach a node once, through the object store, and are mapped from a folder there by all its workers. What a fit
leaves on disk comes back with its result. The driver alone writes.
"""

import copy
import heapq
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from textwrap import shorten
from time import sleep
from typing import Any
from uuid import uuid4

from filelock import FileLock

from crossprop.config import RayConfig
from crossprop.errors import StoreError
from crossprop.experiments.executor import RECYCLED_AFTER, Executor, Failure, Queued, attempt, prepare
from crossprop.experiments.progress import Print, show
from crossprop.experiments.ray_cluster import DEATHS, LOOK_AFTER, Files, RayCluster, packed, unpack
from crossprop.experiments.tasks import FoldTask, ScreenTask
from crossprop.io import atomic_folder
from crossprop.training.device import process_environment

REMOVED_WITHIN = 30.0  # seconds that nodes get to remove the files of the study
SHORT = 600  # characters of a message of Ray


class RayPool(Executor):
    """An executor on the nodes of a Ray cluster: ``workers`` tasks at a time, or as many as they have room for.

    Ray keeps its worker processes, which load the backend once. Nodes that join are used; tasks of a worker or a node
    that died are done elsewhere. A task that found no memory is repeated with all CPUs of a node. Errors are those of
    :class:`RayCluster`, and a StoreError where an input fits neither into the object store nor on its disk.
    """

    def __init__(self, run: Any, *, cluster: RayConfig, write: Print = show, **options: Any) -> None:
        super().__init__(run, **{"workers": 0, **options})
        self._config, self._write = cluster, write
        self._cluster = RayCluster(cluster, write, self.workers)
        self._ray, self.workers = self._cluster.ray, self._cluster.workers()
        folder = self._folder = f"crossprop-{uuid4().hex}"
        backend = self._backend

        def work(task: Any, inputs: dict[Path, Any]) -> Any:  # what is the same for all tasks is sent once
            return _work(run, backend, task, inputs, folder)

        self._remote = self._ray.remote(
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            max_retries=DEATHS,
            max_calls=RECYCLED_AFTER,
            runtime_env={"env_vars": process_environment(self._backend, 1)},
        )(work)
        self._inputs: dict[Path, Any] = {}
        self._flying: dict[Any, Queued] = {}
        self._done = Counter[str]()

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Yield (task, result or :class:`Failure`) as tasks end; see :meth:`Executor.results`."""
        while self._queue or self._flying:
            self._fill()
            if not self._flying:  # every node is gone
                sleep(LOOK_AFTER)
                continue
            ready, _ = self._ray.wait([*self._flying], timeout=LOOK_AFTER)
            ended = [self._outcome(reference, self._flying.pop(reference)) for reference in ready]
            self._fill()  # no worker waits while the results are dealt with
            yield from (result for result in ended if result is not None)

    def close(self) -> None:
        """Give up what is in progress, remove the files of the study from the nodes, and leave the cluster."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        super().close()
        for reference in self._flying:
            self._ray.cancel(reference, force=True)
        self._flying.clear()
        if self._done:
            done = ", ".join(f"{host} {tasks}" for host, tasks in self._done.most_common())
            self._write(f"Ray: tasks by node: {done}")
        remove = self._ray.remote(num_cpus=0)(_remove)
        removed = [
            remove.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(self._folder)
            for node in (self._cluster.ids if self._inputs else ())
        ]
        if removed:
            self._ray.wait(removed, num_returns=len(removed), timeout=REMOVED_WITHIN)
        self._cluster.close()

    def _fill(self) -> None:
        """Give Ray as many tasks as it has workers."""
        self.workers = self._cluster.workers()
        while self._queue and len(self._flying) < self.workers:
            item = heapq.heappop(self._queue)
            task, name, inputs = item.task, type(item.task).__name__, {}
            if isinstance(task, ScreenTask | FoldTask):
                name = f"{task.cell.target} {task.cell.label} {task.name}"
                networks = (path.parent for _, path in task.files.networks)
                inputs = {path: self._input(path) for path in (task.files.prepared, task.files.features, *networks)}
            options = {"num_cpus": max(self._cluster.largest, self._config.cpus)} if item.alone else {}
            self._flying[self._remote.options(name=name, **options).remote(task, inputs)] = item

    def _input(self, path: Path) -> Any:
        """The reference of a file or folder in the object store."""
        if path not in self._inputs:
            try:
                self._inputs[path] = self._ray.put(packed(path))
            except self._ray.exceptions.RayError as error:
                raise StoreError(
                    f"{path} cannot be put into Ray's object store: {error}. Give it more memory "
                    "(ray start --object-store-memory), or free disk space for it to spill to."
                ) from error
        return self._inputs[path]

    def _outcome(self, reference: Any, item: Queued) -> tuple[Any, Any] | None:
        """A task that has ended with its result, or ``None`` where it is tried again."""
        try:
            result, model, host = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # e.g. a result that cannot be pickled
            return self._failed(item, Failure.of(error.cause))
        except self._ray.exceptions.RayError as error:
            text = f"its worker or its node died ({shorten(str(error), SHORT)})"
            return self._failed(item, Failure(text, out_of_memory=True))  # again, with a node of its own
        self._done[host] += 1
        if isinstance(result, Failure):
            return self._failed(item, result)
        if model is not None:
            with atomic_folder(item.task.folder) as draft:
                unpack(model, draft)
        return item.task, copy.deepcopy(result)  # its arrays would keep their place in the object store


def _work(
    run: Callable[[Any], Any], backend: str, task: Any, inputs: dict[Path, Any], folder: str
) -> tuple[Any, Files | None, str]:
    """Do a task on a node: its result, or why there is none, the files of the model that it saved, and the host."""
    root = Path(tempfile.gettempdir()) / folder
    own = root / str(os.getpid())
    host = socket.gethostname()
    try:
        if isinstance(task, ScreenTask | FoldTask):
            task = _localised(task, inputs, root, own)
        result = _prepared(backend) or attempt(run, task)
        return result, packed(own) if own.is_dir() else None, host
    except Exception as error:  # e.g. the node's disk is full
        return Failure.of(error), None, host
    finally:
        shutil.rmtree(own, ignore_errors=True)


_prepared = cache(prepare)


def _localised(task: ScreenTask | FoldTask, inputs: dict[Path, Any], root: Path, own: Path) -> ScreenTask | FoldTask:
    """The task with the paths of this node, where the first that has an input writes it."""
    import ray

    root.mkdir(parents=True, exist_ok=True)
    folders = {path: root / reference.hex() for path, reference in inputs.items()}
    files = replace(
        task.files,
        prepared=folders[task.files.prepared] / task.files.prepared.name,
        features=folders[task.files.features],
        networks=tuple((name, folders[path.parent] / path.name) for name, path in task.files.networks),
        activations=root / "activations" / task.cell.target,
    )
    for path, folder in folders.items():
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with atomic_folder(folder) as draft:
                    unpack(ray.get(inputs[path]), draft)
    if isinstance(task, ScreenTask):
        return replace(task, files=files, journal=None)
    return replace(task, files=files, folder=task.folder and own)


def _remove(folder: str) -> None:
    """Remove what a study kept on a node."""
    shutil.rmtree(Path(tempfile.gettempdir()) / folder, ignore_errors=True)
