"""The executor of a Ray cluster: the same tasks on workers of many nodes, without a shared file system.

Inputs reach a node once, through the object store, and are mapped from a folder there by all its workers. What a fit
leaves on disk comes back with its result. The driver alone writes.
"""

from __future__ import annotations

import copy
import os
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock

import crossprop
from crossprop.config import RayConfig
from crossprop.errors import ConfigError, StoreError
from crossprop.experiments.executor import Pool, Queued, Raised, Service, Worker
from crossprop.experiments.progress import Print, show
from crossprop.experiments.tasks import FoldTask, ScreenTask
from crossprop.io import atomic_folder
from crossprop.training.device import process_environment

LOOK_AFTER = 2.0  # seconds between two looks at the nodes of the cluster
ANSWERS_WITHIN = 10.0  # seconds that the head of a cluster gets to answer
REMOVED_WITHIN = 30.0  # seconds that nodes get to remove the files of the study
SHORT = 600  # characters of a message of Ray

Files = dict[str, np.ndarray]
"""The bytes of files by their path in a folder, shape (n_bytes,); read from the object store without a copy."""


@dataclass(eq=False, kw_only=True)
class _Actor(Worker):
    actor: Any
    reference: Any = None


class RayPool(Pool[_Actor]):
    """A pool of Ray actors, ``workers`` of them, or as many as the nodes of the cluster have room for.

    Nodes that join are used, and tasks of a node that is gone are done elsewhere.

    Raises:
        ConfigError: Ray is not installed, the cluster does not answer, has no room for a worker, or starts none.
        StoreError: An input fits neither into the object store nor on the disk that it spills to.
    """

    deaths = 2  # most often a node is gone, which is not the fault of the task

    def __init__(
        self,
        run: Callable[[Any], Any],
        *,
        cluster: RayConfig,
        write: Print = show,
        workers: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(run, workers=workers, **options)
        self._cluster, self._write, self._asked = cluster, write, workers
        self._ray, self._connected = _connect(cluster, write)
        environment = {"env_vars": process_environment(self._backend, 1)}
        self._actor = self._ray.remote(_Node).options(
            num_cpus=cluster.cpus, num_gpus=cluster.gpus, runtime_env=environment
        )
        self._inputs: dict[Path, Any] = {}
        self._starting: dict[Any, Any] = {}
        self._hosts: dict[str, str] = {}
        self._shown = (0, 0)
        self._done, self._look = Counter[str](), 0.0
        self._folder = f"crossprop-{uuid4().hex}"
        self._grow()
        if not self.workers:
            self.close()
            raise ConfigError(
                f"No node of the cluster has room for a worker with {cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs: "
                "lower compute.ray.cpus or compute.ray.gpus, or give compute.workers and let the cluster grow."
            )

    def close(self) -> None:
        """End the workers, remove their files from the nodes, and leave the cluster."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        super().close()
        for actor in self._starting.values():
            self._ray.kill(actor)
        self._starting.clear()
        if self._done:
            done = ", ".join(f"{self._hosts[node]} {tasks}" for node, tasks in self._done.most_common())
            self._write(f"Ray: tasks by node: {done}")
        removed = [
            self._ray.remote(_remove)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            .remote(self._folder)
            for node in (self._hosts if self._inputs else ())
        ]
        if removed:
            self._ray.wait(removed, num_returns=len(removed), timeout=REMOVED_WITHIN)
        if self._connected:
            self._ray.shutdown()

    def _grow(self) -> None:
        """Start workers where nodes have room, also on those that have joined, and forget those of nodes that left."""
        if monotonic() < self._look:
            return
        self._look = monotonic() + LOOK_AFTER
        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for worker in [w for w in self._pool if w.item is None and w.node not in nodes]:
            self._end(worker)
        self._hosts |= {name: node["NodeManagerHostname"] for name, node in nodes.items()}
        room = sum(self._room(node["Resources"]) for node in nodes.values())
        if (len(nodes), room) != self._shown:
            self._shown = (len(nodes), room)
            self._write(f"Ray: {len(nodes)} nodes with room for {room} workers")
        self.workers = self._asked or room
        for _ in range(self.workers - len(self._pool) - len(self._starting)):
            actor = self._actor.remote(self._run, self._backend, self._folder)
            self._starting[actor.node.remote()] = actor

    def _room(self, resources: dict[str, float]) -> int:
        """Workers that a node has room for."""
        rooms = [resources.get("CPU", 0) / self._cluster.cpus]
        if self._cluster.gpus:
            rooms.append(resources.get("GPU", 0) / self._cluster.gpus)
        return int(min(rooms) + 1e-9)

    def _start(self) -> None:
        return None  # they start by themselves, and join the pool when they are ready

    def _wait(self) -> list[_Actor]:
        busy = {worker.reference: worker for worker in self._pool if worker.item is not None}
        waiting = [*busy, *self._starting]
        ready: list[Any] = []
        if not waiting:
            sleep(LOOK_AFTER)
        elif self._ray.wait(waiting, timeout=LOOK_AFTER)[0]:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for reference in [r for r in ready if r in self._starting]:
            self._join(reference, self._starting.pop(reference))
        self._grow()
        return [busy[reference] for reference in ready if reference in busy]

    def _join(self, reference: Any, actor: Any) -> None:
        try:
            self._pool.append(_Actor(node=self._ray.get(reference), actor=actor))
        except self._ray.exceptions.RayError as error:
            reason = shorten(str(error), SHORT)
            if getattr(error, "actor_init_failed", True) and not self._pool:
                raise ConfigError(
                    "No worker can start on the cluster: every node needs the packages of requirements-ray.lock and "
                    f"this version of Python. Ray says: {reason}"
                ) from None
            self._write(f"Ray: a worker died while it started: {reason}")

    def _send(self, worker: _Actor, task: Any) -> None:
        inputs, name = {}, type(task).__name__
        if isinstance(task, ScreenTask | FoldTask):
            networks = (path.parent for _, path in task.files.networks)
            inputs = {
                path: self._input(path) for path in (task.files.prepared, task.files.features, *networks)
            }
            name = f"{task.cell.target} {task.cell.label} {task.name}"
        worker.reference = worker.actor.do.options(name=name).remote(task, inputs)

    def _input(self, path: Path) -> Any:
        """The reference of a file or folder in the object store."""
        if path not in self._inputs:
            try:
                self._inputs[path] = self._ray.put(_packed(path))
            except (self._ray.exceptions.ObjectStoreFullError, self._ray.exceptions.OutOfDiskError) as error:
                raise StoreError(
                    f"{path} does not fit into Ray's object store: {error}. Start the cluster with a larger one "
                    "(ray start --object-store-memory), or free disk space for it to spill to."
                ) from error
        return self._inputs[path]

    def _outcome(self, worker: _Actor, item: Queued) -> Any:
        try:
            result, model = self._ray.get(worker.reference)
        except self._ray.exceptions.RayTaskError as error:  # e.g. a result that cannot be pickled
            return Raised.of(error.cause)
        except self._ray.exceptions.RayError as error:
            reason = f"its worker or its node died ({shorten(str(error), SHORT)})"
            return Raised(reason, alone=item.attempts > 0, died=True)
        finally:
            worker.reference = None
        self._done[worker.node] += 1
        if model is not None:
            with atomic_folder(item.task.folder) as draft:
                _unpack(model, draft)
        return copy.deepcopy(result)  # its arrays would keep their place in the object store

    def _end(self, worker: _Actor) -> None:
        self._pool.remove(worker)
        self._ray.kill(worker.actor)


class _Node:
    """What a worker is on its node: an actor that keeps what it has loaded."""

    def __init__(self, run: Callable[[Any], Any], backend: str, folder: str) -> None:
        self._service = Service(run, backend)
        self._folder = Path(tempfile.gettempdir()) / folder

    def node(self) -> str:
        """Id of the node that it runs on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def do(self, task: Any, inputs: dict[Path, Any]) -> tuple[Any, Files | None]:
        """The result of a task, or why there is none, and the files of the model that it saved."""
        if not isinstance(task, ScreenTask | FoldTask):
            return self._service.do(task), None
        own = self._folder / str(os.getpid())
        try:
            task = self._localised(task, inputs, own)
            result = self._service.do(task)
            model = getattr(task, "folder", None)
            return result, _packed(model) if model and model.is_dir() else None
        except Exception as error:  # e.g. the node's disk is full
            return Raised.of(error), None
        finally:
            shutil.rmtree(own, ignore_errors=True)

    def _localised(
        self, task: ScreenTask | FoldTask, inputs: dict[Path, Any], own: Path
    ) -> ScreenTask | FoldTask:
        """The task with the paths of this node, where the inputs that it reads are written by the first that does."""
        folders = {path: self._folder / reference.hex() for path, reference in inputs.items()}
        files = replace(
            task.files,
            prepared=folders[task.files.prepared] / task.files.prepared.name,
            features=folders[task.files.features],
            networks=tuple((name, folders[path.parent] / path.name) for name, path in task.files.networks),
            activations=self._folder / "activations" / task.cell.target,
        )
        unread = {path.parent for name, path in task.files.networks if name != task.cell.source}
        for path, folder in folders.items():
            if path not in unread:
                _fetch(inputs[path], folder)
        if isinstance(task, ScreenTask):
            return replace(task, files=files, journal=None)
        return replace(task, files=files, folder=task.folder and own)


def _connect(cluster: RayConfig, write: Print) -> tuple[Any, bool]:
    """The module ``ray``, connected, and whether it was not before."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"compute.executor is 'ray', but Ray cannot be imported ({error}). Install it with "
            "'make setup LOCK=requirements-ray.lock', or compute on this machine with compute=local."
        ) from None
    if ray.is_initialized():
        return ray, False
    code = {"py_modules": [str(Path(crossprop.__file__).parent)]}
    host, _, port = (cluster.address or "").rpartition(":")
    try:
        if port.isdigit() and "//" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN).close()
        context = ray.init(cluster.address, runtime_env=code, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        place = cluster.address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise ConfigError(
            f"The Ray cluster of {place} cannot be used: {error}. Correct compute.ray.address; "
            "'ray status' tells whether the cluster answers."
        ) from error
    if context.dashboard_url:
        write(f"Ray: dashboard http://{context.dashboard_url}")
    return ray, True


def _fetch(reference: Any, folder: Path) -> None:
    """Write an input from the object store into its folder on this node, unless it is there."""
    import ray

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            files = ray.get(reference)
            with atomic_folder(folder) as draft:
                _unpack(files, draft)


def _packed(path: Path) -> Files:
    if path.is_file():
        return {path.name: np.fromfile(path, np.uint8)}
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): np.fromfile(file, np.uint8) for file in files}


def _unpack(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content.tofile(folder / name)


def _remove(folder: str) -> None:
    """Remove what a study kept on a node."""
    shutil.rmtree(Path(tempfile.gettempdir()) / folder, ignore_errors=True)
