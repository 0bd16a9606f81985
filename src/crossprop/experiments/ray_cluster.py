"""A Ray cluster: the connection, the workers that its nodes have room for, and files on their way there and back."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

import crossprop
from crossprop.config import RayConfig
from crossprop.errors import ConfigError

DEATHS = 2  # how often a task is done again because its worker or its node died
LOOK_AFTER = 2.0  # seconds between two looks at the nodes of the cluster
ANSWERS_WITHIN = 10.0  # seconds that the head of a cluster gets to answer

Files = dict[str, np.ndarray]
"""The bytes of files by their path in a folder, shape (n_bytes,); read from the object store without a copy."""


class RayCluster:
    """A cluster that this process has joined: the module ``ray``, and what its nodes have.

    ``ids`` are those of all nodes that were seen, ``largest`` the CPUs of the largest of them, ``cpus`` those of all
    that are alive. One that does not answer or has no room for a worker, and a missing Ray, are a ConfigError.
    """

    def __init__(self, config: RayConfig, write: Callable[[str], None], workers: int = 0) -> None:
        self.ray, self._joined = _connect(config, write)
        self.ids: set[str] = set()
        self.largest = self.cpus = 0.0
        self._config, self._write, self._asked = config, write, workers
        self._look, self._shown = 0.0, (0, 0)
        if not self.workers():
            self.close()
            raise ConfigError(
                f"No node of the cluster has room for a worker with {config.cpus:g} CPUs and {config.gpus:g} GPUs: "
                "lower compute.ray.cpus or compute.ray.gpus, or say how many workers (compute.workers, --workers) "
                "and let the cluster grow."
            )

    def workers(self) -> int:
        """Workers that were asked for, or as many as there is room for: nodes that join or die count in seconds."""
        if monotonic() >= self._look:
            self._look = monotonic() + LOOK_AFTER
            nodes = {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}
            self.ids |= nodes.keys()
            cpus = [has.get("CPU", 0.0) for has in nodes.values()]
            self.cpus, self.largest = sum(cpus), max(cpus, default=0.0)
            seen = len(nodes), sum(map(self._room, nodes.values()))
            if seen != self._shown:
                self._shown = seen
                self._write(f"Ray: {seen[0]} nodes with room for {seen[1]} workers")
        return self._asked or self._shown[1]

    def _room(self, has: Mapping[str, float]) -> int:
        """Workers that a node with these resources has room for."""
        wanted = (("CPU", self._config.cpus), ("GPU", self._config.gpus))
        return int(min(has.get(name, 0.0) / share for name, share in wanted if share) + 1e-9)

    def close(self) -> None:
        """Leave the cluster, which ends what this process has running there, unless others here use it too."""
        if self._joined:
            self.ray.shutdown()


def _connect(cluster: RayConfig, write: Callable[[str], None]) -> tuple[Any, bool]:
    """The module ``ray``, connected, and whether it was not before."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_task_oom_retries", str(DEATHS))  # without end by default
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"The executor is 'ray', but Ray cannot be imported ({error}). Install it with "
            "'make setup LOCK=requirements-ray.lock', or compute on this machine: compute=local, --executor local."
        ) from None
    if ray.is_initialized():
        return ray, False
    code = {"py_modules": [str(Path(crossprop.__file__).parent)]}
    # Ray's own default would wait for a cluster of this machine that was killed.
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "//" not in host:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN).close()
        context = ray.init(address, runtime_env=code, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        place = "this machine" if address == "local" else address
        raise ConfigError(
            f"The Ray cluster of {place} cannot be used: {error}. Correct compute.ray.address or RAY_ADDRESS; "
            "'ray status' tells whether the cluster answers."
        ) from error
    if context.dashboard_url:
        write(f"Ray: dashboard http://{context.dashboard_url}")
    return ray, True


def packed(path: Path) -> Files:
    """The bytes of a file or a folder."""
    if path.is_file():
        return {path.name: np.fromfile(path, np.uint8)}
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): np.fromfile(file, np.uint8) for file in files}


def unpack(files: Files, folder: Path) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        content.tofile(folder / name)
