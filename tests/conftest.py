"""A study small enough for a test: synthetic compositions, short budgets, one source network."""

import copy
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Threads of OpenMP spin while they wait: on a busy machine boosted trees would take minutes. Workers have one, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

from crossprop import cli
from crossprop.config import Params, parse_params
from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.features.matrices import write_features
from crossprop.methods import Representation
from crossprop.paths import StudyPaths
from crossprop.training.device import process_environment

# Tests that run in the background of a shell inherit an ignored SIGINT; the commands that they interrupt must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, and as long for each as a busy machine needs. Others: --hypothesis-profile=default
REPEATABLE = {"derandomize": True, "database": None, "deadline": None}
settings.register_profile("repeatable", suppress_health_check=[HealthCheck.too_slow], **REPEATABLE)
settings.load_profile("repeatable")

ROOT = Path(__file__).resolve().parents[1]
NODE: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
TARGET, SOURCE = "slme", "formation_energy"
RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001, "schedule": "constant"}
JOINT: dict[str, Any] = {"joint": {"all_sources": [SOURCE]}, "joint_pretrain": RECIPE}
"""What a study with a joint network states beside the rest."""
STUDY = {"name": "tiny", "title": "A study for tests", "targets": [TARGET], "sources": [SOURCE], "folds": 2}
STUDY |= {"methods": ["base", "ml", "finetune"], "representations": ["elemental_fractions"]}
STUDY |= {"budget": {"ml_trials": 2, "dl_trials": 1, "seconds": 600}, "scratch": RECIPE, "transfer": RECIPE}
STUDY |= {"pretrain": {**RECIPE, "batch_size": 32, "epochs": 2}}
TINY: dict[str, Any] = {
    "study": STUDY,
    "search": {
        "ml": {
            "defaults_first": 2,
            "algorithms": {
                "extra_trees": {"n_estimators": {"low": 5, "high": 20, "integer": True, "default": 10}},
                "ridge": {"alpha": {"low": 0.01, "high": 10.0, "log": True, "default": 1.0}},
                "k_neighbors": {
                    "weights": {"choices": ["distance", "uniform"], "default": "distance"},
                    "p": {"choices": [1, 2], "default": 1},
                },
            },
        },
        "dl": {"learning_rate": {"low": 0.0005, "high": 0.002, "log": True}},
        "finetune": {"learning_rate": {"low": 0.0005, "high": 0.002, "log": True}},
        "layers": ["hidden_14", "hidden_15", "hidden_16"],
        "default_layer": "hidden_15",
    },
    "compute": {"workers": 1, "retries": 0},
}


@pytest.fixture(scope="session")
def compose() -> Callable[..., Any]:
    """Composes conf/ with overrides, as `dvc exp run -S …` does, into what params.yaml would hold."""

    @cache
    def composed(overrides: tuple[str, ...]) -> Any:
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        with initialize_config_dir(str(ROOT / "conf"), version_base=None):
            return OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)

    return lambda *overrides: copy.deepcopy(composed(overrides))


class Finished(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """What a command says that has to be refused."""
        assert self.status == 1, self.out
        return self.err

    @property
    def printed(self) -> str:
        """What a command prints that has to succeed."""
        assert self.status == 0, self.err
        return self.out


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Runs a function as a program with arguments, in this process."""

    def run(main: Callable[[], None], *arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("COLUMNS", "160")
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Finished(status, out, err)

    return run


@pytest.fixture
def crossprop(ended: Callable[..., Finished]) -> Callable[..., Finished]:
    """Runs the command ``crossprop`` in this process."""
    return lambda *arguments: ended(cli.main, "crossprop", *arguments)


@pytest.fixture
def environment_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that executors set are as they were afterwards, and the store is that of the working folder."""
    for name in (*process_environment("jax", 1), "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def tiny_values() -> dict[str, Any]:
    """Plain values of a valid configuration, to be changed at will."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def tiny_params() -> Callable[..., Params]:
    """Builds the tiny configuration; keywords replace values of ``study``, ``compute`` those of ``compute``."""

    def build(compute: dict[str, Any] | None = None, **study: Any) -> Params:
        values = copy.deepcopy(TINY)
        values["study"] |= study
        values["compute"] |= compute or {}
        return parse_params(values)

    return build


def synthetic_table(n: int, seed: int, splits: tuple[str, str], repeated: int = 0) -> pd.DataFrame:
    """A prepared table of n binary compositions whose value is a smooth function of the composition.

    The last fifth belongs to the second split. ``repeated`` further rows of the first split have
    compositions of the second one, under doubled formulas.
    """
    rng = np.random.default_rng(seed)
    pairs = [(a, b) for i, a in enumerate(ELEMENTS[:40]) for b in ELEMENTS[i + 1 : 40]]
    chosen = rng.permutation(len(pairs))[:n]
    amounts = rng.integers(1, 5, (n, 2)).tolist()
    counts = [(pairs[k], amount) for k, amount in zip(chosen, amounts, strict=True)]
    held = n - n // 5
    rows = [(f"{a}{p}{b}{q}", splits[i >= held]) for i, ((a, b), (p, q)) in enumerate(counts)]
    rows += [(f"{a}{2 * p}{b}{2 * q}", splits[0]) for (a, b), (p, q) in counts[held : held + repeated]]
    frame = pd.DataFrame(rows, columns=["formula", "split"])
    fractions = fraction_matrix(frame["formula"])
    slope = np.random.default_rng(7).normal(size=fractions.shape[1])
    value = 10 * fractions @ slope + rng.normal(scale=0.1, size=len(frame))
    frame = frame.assign(composition=composition_keys(fractions), value=value)
    return frame[["formula", "composition", "value", "split"]]


@pytest.fixture(scope="session")
def write_target() -> Callable[..., pd.DataFrame]:
    """Writes the prepared table and the matrices of a synthetic target into a folder that a study starts from."""

    def write(root: Path, target: str = TARGET, n: int = 60, seed: int = 1, repeated: int = 0) -> Any:
        frame = synthetic_table(n, seed, ("train", "test"), repeated)
        _write_property(StudyPaths("tiny", root), target, frame)
        return frame

    return write


@pytest.fixture(scope="session")
def pretrained_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root that holds the prepared tiny source and its network."""
    from crossprop.experiments.pretrain import pretrain

    root = tmp_path_factory.mktemp("source")
    params = parse_params(copy.deepcopy(TINY))
    paths = StudyPaths(params.study.name, root)
    _write_property(paths, SOURCE, synthetic_table(80, 2, ("train", "validation")))
    pretrain(params, SOURCE, {SOURCE: "eV/atom"}, paths, lambda line: None)
    return root


@pytest.fixture(scope="session")
def write_study(pretrained_source: Any, write_target: Callable[..., Any]) -> Callable[..., pd.DataFrame]:
    """Like ``write_target``, with the source and its network in place."""

    def write(root: Path, **options: Any) -> pd.DataFrame:
        given, paths = StudyPaths("tiny", pretrained_source), StudyPaths("tiny", root)
        shutil.copytree(given.source_model(SOURCE), paths.source_model(SOURCE))
        paths.prepared_folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(given.prepared(SOURCE), paths.prepared(SOURCE))
        return write_target(root, **options)

    return write


@pytest.fixture(scope="session")
def pretrained_joint(pretrained_source: Path, tiny_params: Callable[..., Params]) -> Path:
    """The folder of a tiny joint network that has learnt the one source of the tiny study."""
    from crossprop.experiments.pretrain import pretrain

    paths = StudyPaths("tiny", pretrained_source)
    pretrain(tiny_params(**JOINT), "all_sources", {SOURCE: "eV/atom"}, paths, lambda line: None)
    return paths.source_model("all_sources")


@pytest.fixture(scope="session")
def template_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store to be copied: making one takes seconds."""
    from crossprop.tracking.store import prepare_store

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    prepare_store(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def tensorflow() -> None:
    """Keras on TensorFlow, set up once in the process; for tests that build networks."""
    from crossprop.training.device import configure

    configure("tensorflow", 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster with one node of one core, which knows the modules of the tests."""
    pytest.importorskip("ray", reason="Ray is not installed: make setup LOCK=requirements-ray.lock")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        paths = [os.environ.get("PYTHONPATH", ""), *map(str, (ROOT / "tests", ROOT / "tests/unit/experiments"))]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        made = Cluster(initialize_head=True, head_node_args=NODE)
        yield made
        made.shutdown()


@pytest.fixture
def further_node(cluster: Any) -> Iterator[Callable[..., Any]]:
    """Adds a node; it is gone after the test."""
    added = []

    def add(**options: Any) -> Any:
        added.append(cluster.add_node(**(NODE | options)))
        return added[-1]

    yield add
    for node in added:
        if node in cluster.list_all_nodes():
            cluster.remove_node(node, allow_graceful=True)


def _write_property(paths: StudyPaths, name: str, frame: pd.DataFrame) -> None:
    paths.prepared_folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(paths.prepared(name), index=False)
    both = [Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES]
    write_features(frame, paths.features(name), both)
