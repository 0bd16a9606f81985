"""Where a run came from: git state, packages, machine and process."""

from __future__ import annotations

import functools
import getpass
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.paths import StudyPaths
from crossprop.tracking.store import named_faults, open_client, prepare_store, store_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

PACKAGES = (
    "crossprop", "mlflow", "dvc", "optuna", "numpy", "scipy", "pandas", "scikit-learn", "lightgbm", "keras",
    "tensorflow", "jax", "matminer", "pymatgen", "skops",
)  # fmt: skip
"""Packages whose versions can change a result."""

PROCESS_TAG = "crossprop.process"
_MOST_EXPERIMENTS = 10_000
_NOT_CODE = (":!dvc.lock", ":!reports")
"""Tracked, but written by the pipeline itself: a change there does not make the code dirty."""


@dataclass(frozen=True)
class GitState:
    """The version of the code; ``dirty`` if tracked files differ from the commit (the pipeline's own outputs apart)."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False


def git_state(root: Path) -> GitState:
    """Git state of the folder ``root``; an empty one where git or a repository is missing."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return GitState()
    changes = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *_NOT_CODE)
    return GitState(commit, _git(root, "symbolic-ref", "--short", "-q", "HEAD"), dirty=bool(changes))


@functools.cache
def environment() -> dict[str, Any]:
    """Interpreter, package versions and machine of this process, for ``environment.json``."""
    import psutil

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "keras_backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "packages": installed_versions(PACKAGES),
    }


def installed_versions(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of the named distributions that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def user_name() -> str:
    """Name of the user; ``"unknown"`` in a container whose user has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def process_tags() -> dict[str, str]:
    """A tag that tells, later, whether the process that wrote a run still lives: host, process id, start."""
    import psutil

    me = psutil.Process()
    return {PROCESS_TAG: f"{socket.gethostname()} {me.pid} {int(me.create_time())}"}


def process_is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process behind ``process_tags`` ran on this machine and has ended.

    A process of another machine counts as alive, since it cannot be seen from here. The start time is compared, too:
    a process id may be used again.
    """
    import psutil

    match tags.get(PROCESS_TAG, "").split():
        case [host, pid, start] if host == socket.gethostname() and pid.isdigit() and start.isdigit():
            try:
                process = psutil.Process(int(pid))
                recycled = abs(int(process.create_time()) - int(start)) > 2
                return bool(recycled or process.status() == psutil.STATUS_ZOMBIE)
            except psutil.NoSuchProcess:
                return True
            except psutil.AccessDenied:
                return False
    return False


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What the stage knows and a cell does not.

    Attributes:
        uri: URI of the tracking store, prepared (``prepare_store``).
        study: Name of the study.
        git: Version of the code.
        data_hashes: Per property (target or source): hash of its prepared table.
        data_sources: Per property: path or URL of its prepared table.
        descriptions: Per property: what it is.
        config_text: Resolved configuration, YAML.
    """

    uri: str
    study: str
    git: GitState = field(default_factory=GitState)
    data_hashes: Mapping[str, str] = field(default_factory=dict)
    data_sources: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    config_text: str = ""

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

    dead: list[str] = []
    with named_faults(client.tracking_uri, f"ending the dead runs of study {study}"):
        found = client.search_experiments(view_type=ViewType.ACTIVE_ONLY, max_results=_MOST_EXPERIMENTS)
        experiments = [e.experiment_id for e in found]
        wanted = f"attributes.status = 'RUNNING' AND tags.`crossprop.study` = '{study}'"
        for run in client.search_runs(experiments, wanted, max_results=5000):
            if process_is_gone(run.data.tags):
                client.set_terminated(run.info.run_id, status="KILLED")
                dead.append(str(run.info.run_id))
    return dead


def open_study_context(params: Params, paths: StudyPaths, data_hashes: Mapping[str, str]) -> RunContext:
    """Make the tracking store ready for a stage: initialise it, end dead runs, tag the run that ``mlflow run`` opened.

    Args:
        params: Configuration.
        paths: Where the study's files lie.
        data_hashes: Hash of the prepared table of every property, or joint network's sources, that the stage works on.

    Raises:
        TrackingError: The store is locked, damaged, not writable or not reachable.
    """
    own_run = os.environ.get("MLFLOW_RUN_ID") or None  # which prepare_store removes
    uri = prepare_store(store_uri(paths.root))
    client = open_client(uri)
    if own_run is not None:  # so that it is ended after a kill
        with named_faults(uri, f"tagging the project run {own_run}"):
            for key, value in {**process_tags(), "crossprop.study": params.study.name}.items():
                client.set_tag(own_run, key, value)
    reap_dead_runs(client, params.study.name)
    catalog = load_catalog()
    joint = {name: f"Joint network of {', '.join(sources)}" for name, sources in params.study.joint.items()}
    return RunContext(
        uri=uri,
        study=params.study.name,
        git=git_state(Path(paths.root)),
        data_hashes=dict(data_hashes),
        data_sources={name: str(paths.prepared(name)) for name in data_hashes},
        descriptions={name: joint.get(name) or catalog.property(name).description for name in data_hashes},
        config_text=yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False),
    )
