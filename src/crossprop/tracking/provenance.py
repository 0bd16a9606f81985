"""Where a run came from: git state, packages, machine and process."""

from __future__ import annotations

import functools
import getpass
import logging
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.experiments.fingerprint import package_versions
from crossprop.paths import StudyPaths
from crossprop.tracking.store import client_of, named_faults, open_client, prepare_store, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

PACKAGES = (
    "crossprop", "mlflow", "dvc", "optuna", "numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "keras",
    "tensorflow", "jax", "matminer", "pymatgen", "skops",
)  # fmt: skip
PROCESS_TAG = "crossprop.process"
PROJECT_RUN = "CROSSPROP_PROJECT_RUN"  # set by ``MLproject``: ``mlflow run``'s own run, of all stages
_GENERATED_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")  # what MLflow calls a run that was given no name
_MOST_EXPERIMENTS = 10_000
_NOT_CODE = (":!dvc.lock", ":!reports")  # tracked, but written by the pipeline itself


@dataclass(frozen=True)
class GitState:
    """The version of the code; ``dirty`` if tracked files differ from the commit (the pipeline's own outputs apart)."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False


def git_state(root: Path) -> GitState:
    """Git state of the folder ``root``; an empty one where git or a repository is missing."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() or None

    commit = git("rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return GitState()
    changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", *_NOT_CODE)
    return GitState(commit, git("symbolic-ref", "--short", "-q", "HEAD"), dirty=bool(changes))


@functools.cache
def environment() -> dict[str, Any]:
    """Interpreter, package versions and machine of this process, for ``environment.json``."""
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "keras_backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "packages": package_versions(*PACKAGES),
    }


def user_name() -> str:
    """Name of the user; ``"unknown"`` in a container whose user has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def process_tags() -> dict[str, str]:
    """A tag that tells, later, whether the process that wrote a run still lives: host, process id, start."""
    me = psutil.Process()
    return {PROCESS_TAG: f"{socket.gethostname()} {me.pid} {int(me.create_time())}"}


def process_is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process behind ``process_tags`` has ended; one of another machine counts as alive."""
    host, pid, start = (tags.get(PROCESS_TAG) or "unknown 0 0").split()
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        return bool(abs(process.create_time() - int(start)) > 2 or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.AccessDenied:
        return False
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the stage knows and a cell does not: the prepared store, and by target or source what its data are."""

    uri: str
    study: str
    git: GitState = field(default_factory=GitState)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    data_sources: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""  # the resolved configuration, YAML

    def code_tags(self) -> dict[str, str]:
        """Tags for the code's version, where there is a repository, and the UI's columns ``Created by``, ``Source``."""
        tags = {"mlflow.user": user_name(), "mlflow.source.name": "crossprop", "mlflow.source.type": "LOCAL"}
        if self.git.commit:
            tags["mlflow.source.git.commit"] = self.git.commit
            tags["crossprop.git_dirty"] = str(self.git.dirty).lower()
        if self.git.branch:
            tags["mlflow.source.git.branch"] = self.git.branch
        return tags


def reap_dead_runs(client: MlflowClient, study: str) -> list[str]:
    """Set runs of a study to KILLED whose process, on this machine, has ended while they were RUNNING; their ids."""
    from mlflow.entities import ViewType

    with named_faults(client.tracking_uri, f"ending the dead runs of study {study}"):
        found = client.search_experiments(view_type=ViewType.ACTIVE_ONLY, max_results=_MOST_EXPERIMENTS)
        wanted = f"attributes.status = 'RUNNING' AND tags.`crossprop.study` = '{study}'"
        running = client.search_runs([e.experiment_id for e in found], wanted, max_results=5000)
        dead = [str(run.info.run_id) for run in running if process_is_gone(run.data.tags)]
        for run_id in dead:
            client.set_terminated(run_id, status="KILLED")
    return dead


@contextmanager
def system_metrics(root: Path) -> Iterator[None]:
    """Record the load of the machine in the run that ``mlflow run`` opened for this stage, while the block works."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    uri = store_uri(root=root)  # refuses a folder that MLflow cannot use
    if run_id is None:
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    client_of(uri)  # silences MLflow
    logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)
    monitor = SystemMetricsMonitor(run_id, tracking_uri=uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def open_study_context(params: Params, paths: StudyPaths, data_hashes: Mapping[str, str]) -> RunContext:
    """Make the store ready for a stage, with hashes of its data: end dead runs, name the run of ``mlflow run``."""
    own_run, whole = (os.environ.get(name) for name in ("MLFLOW_RUN_ID", PROJECT_RUN))  # before prepare_store
    uri = prepare_store(store_uri(root=paths.root))
    client = open_client(uri)
    with named_faults(uri, "naming the run of mlflow run"):
        for run_id in filter(None, (own_run, whole)):
            run = client.get_run(run_id)
            if _GENERATED_NAME.fullmatch(run.info.run_name or ""):
                values = [value for key, value in run.data.params.items() if key != "params"]
                entry_point = run.data.tags.get("mlflow.project.entryPoint", "stage")
                client.update_run(run_id, name=f"{entry_point} {' '.join(values)}".strip())
            client.set_tag(run_id, "crossprop.study", params.study.name)
        if own_run:  # so that it is ended after a kill
            client.set_tag(own_run, PROCESS_TAG, process_tags()[PROCESS_TAG])
    reap_dead_runs(client, params.study.name)
    catalog = load_catalog()
    joint = {name: f"Joint network of {', '.join(sources)}" for name, sources in params.study.joint.items()}
    return RunContext(
        uri=uri,
        study=params.study.name,
        git=git_state(Path(paths.root)),
        data_hashes=dict(data_hashes),
        data_sources={n: str(paths.prepared_folder if n in joint else paths.prepared(n)) for n in data_hashes},
        descriptions={name: joint.get(name) or catalog.property(name).description for name in data_hashes},
        config_text=yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False),
    )
