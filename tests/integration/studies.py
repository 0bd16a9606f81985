"""Small studies without networks in folders of their own; `jax` is only named as the backend: workers start quickly."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from waiting import until

from crossprop.config import parse_params
from crossprop.experiments.executor import InlinePool
from crossprop.experiments.targets import run_targets
from crossprop.paths import StudyPaths

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORKS: dict[str, Any] = {"methods": ["base", "ml"], "sources": [], "shards": {"only": ["slme"]}}
QUICK = {"workers": 1, "backend": "jax", "retries": 0}


def project(root, params, write_target):
    """A folder to run stages in, with a configuration and a prepared target."""
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False))
    write_target(root)
    return StudyPaths.of(params.study, root)


def without_networks(values, algorithms, **study):
    """The tiny configuration with another zoo."""
    values["study"] |= {**NO_NETWORKS, **study}
    values["search"]["ml"]["algorithms"] = algorithms
    values["compute"] |= QUICK
    return parse_params(values)


def computed(params, paths, recorder=None, lines=None, pool=InlinePool):
    """The target, computed in this process unless a pool is given; progress goes into the list."""
    heard = [] if lines is None else lines
    recorders = lambda digests: recorder or (lambda cell: "")  # noqa: E731
    return run_targets(params, ["slme"], paths, recorders, heard.append, pool=pool)["slme"]


def start_transfer(root, **environment):
    """The stage's script on the study in a folder, as a process group of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_TRACK", "KERAS", "OMP"))}
    command = [sys.executable, str(ROOT / "pipelines" / "transfer.py"), "--shard", "only"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=root, env=kept | environment, start_new_session=True, **pipes)


def pieces(paths):
    """Finished pieces with the time they were written."""
    notes = (paths.root / ".crossprop" / "cells").glob("*/*/*/report.json")
    finished = [note for note in notes if note.parent.suffix != ".tmp"]
    return {note.parent.relative_to(paths.root).as_posix(): note.stat().st_mtime_ns for note in finished}


def wait_for_pieces(process, paths, wanted):
    """Wait until a transfer has finished so many pieces."""
    until(lambda: len(pieces(paths)) >= wanted or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]


def workers_of(process):
    """The worker processes of a scheduler."""
    children = psutil.Process(process).children(recursive=True)
    return [c for c in children if "spawn_main" in " ".join(c.as_dict(["cmdline"])["cmdline"] or ())]


def tracked(uri: str, experiment: str = "tiny/slme") -> list[Any]:
    """The runs of a target."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def results(paths, name):
    """One of the target's written results."""
    return json.loads((paths.results("slme") / name).read_text())


@dataclass
class Project:
    """A copy of the project with its own git repository, whose code the commands run."""

    root: Path

    def copy(self, *left_out):
        """Copy what git does not ignore, apart from what starts with such a name."""
        command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        for name in subprocess.check_output(command, cwd=ROOT, text=True).split("\0"):
            if (ROOT / name).is_file() and not name.startswith(left_out):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name)

    def commit(self):
        for command in ("init --quiet", "add -A", "commit --quiet -m start"):
            self.run("git", *command.split())

    @property
    def environment(self):
        """What a person has in the shell, with the environment of the tests."""
        private = ("CROSSPROP", "KERAS", "MLFLOW_", "OMP_", "PYTEST")
        kept = {k: v for k, v in os.environ.items() if k == "CROSSPROP_MIRROR" or not k.startswith(private)}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root / "src"), "MPLBACKEND": "Agg",
            "MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
        }  # fmt: skip

    def start(self, *command):
        """Begin a command in a process group of its own."""
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *command):
        """What a command prints that has to succeed."""
        process = self.start(*command)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output
