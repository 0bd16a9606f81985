"""The executor of a Ray cluster, on real nodes of one machine: same results, whatever dies (`jax` is only named)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pool_tasks
import pytest
import yaml

from crossprop.config import RayConfig
from crossprop.errors import ConfigError
from crossprop.experiments import ray_executor
from crossprop.experiments.executor import Failure
from crossprop.experiments.pretrain import load_provenance
from crossprop.experiments.ray_executor import RayPool
from crossprop.experiments.targets import run_targets
from crossprop.io import check_digests
from crossprop.paths import StudyPaths
from crossprop.tracking.store import open_client

SOURCE = "formation_energy"
RECIPE = {"epochs": 1, "batch_size": 16, "learning_rate": 0.001, "schedule": "constant"}
pytestmark = pytest.mark.usefixtures("environment_is_restored")
JOINT = {"joint": {"all_sources": [SOURCE]}, "joint_pretrain": RECIPE}


def test_missing_ray_is_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray cannot be imported .*requirements-ray\.lock.*compute=local"):
        RayPool(pool_tasks.do, cluster=RayConfig())


@pytest.fixture
def pool(cluster):
    """Makes pools of the cluster, with the lines that they print."""

    def make(lines=None, **options):
        given = {"cluster": RayConfig(address=cluster.address), "backend": "jax"} | options
        return RayPool(pool_tasks.do, write=(lines if lines is not None else []).append, **given)

    return make


def answers(pool, *tasks):
    """What becomes of tasks, by name."""
    for given in tasks:
        pool.submit(given)
    return {given["name"]: result for given, result in pool.results()}


@pytest.mark.slow
def test_tasks_that_fail_and_workers_that_die_are_dealt_with_as_on_one_machine(pool, task, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "RECYCLED_AFTER", 3)
    names = ("describe", "fail", "fail_once", "fail_oddly", "need_too_much", "die_once", "die", "answer")
    with pool(retries=1) as workers:
        told = answers(workers, *(task(name, name) for name in names))
        again = answers(workers, *(task(f"again{i}", "describe") for i in range(7)))
    assert told["describe"][1:] == ("jax", "1")
    assert (told["fail_once"], told["die_once"], told["answer"]) == ("second try", "alive", "done")
    assert told["fail"] == Failure("CellError: no luck today")
    assert told["fail_oddly"] == Failure("_UnpicklableError: 1 and 2")
    assert told["need_too_much"].reason.startswith("out of memory (")
    assert told["die"].reason.startswith("its worker or its node died (")
    counts = {name: pool_tasks.attempts(tmp_path, name) for name in names}
    assert counts == dict.fromkeys(names, 2) | {"describe": 1, "answer": 1, "die": 3}
    assert 1 < len({pid for pid, *_ in again.values()}) < 7  # workers do many tasks, and are replaced now and then


@pytest.mark.slow
def test_task_without_memory_is_repeated_with_a_whole_node(pool, cluster, task):
    half = RayConfig(address=cluster.address, cpus=0.5)
    with pool(cluster=half) as workers:
        assert workers.workers == 2
        assert answers(workers, task("first", "work"), task("large", "need_room"))["large"] == "enough room"


@pytest.mark.slow
def test_tasks_of_a_killed_node_alone_are_done_again_and_a_late_node_is_used(
    pool, cluster, task, tmp_path, further_node
):
    lines = list[str]()
    doomed = further_node()
    with pool(lines) as workers:
        assert workers.workers == 2
        for i in range(8):
            workers.submit(task(f"t{i}", seconds=1.0))
        seen = []
        for given, result in workers.results():
            assert result == "done"
            seen.append(given["name"])
            if len(seen) == 2:
                cluster.remove_node(doomed, allow_graceful=False)
            if len(seen) == 4:
                further_node()
        late = answers(workers, *(task(f"late{i}", seconds=1.0) for i in range(12)))
    assert sorted(seen) == [f"t{i}" for i in range(8)]
    assert sum(pool_tasks.attempts(tmp_path, f"t{i}") for i in range(8)) <= 9  # the one that the node had, if any
    assert set(late.values()) == {"done"}
    assert lines[-1].startswith("Ray: tasks by node: ")
    assert lines[-1].endswith(" 20")  # all nodes are this machine
    assert len({note.name.split(".")[1] for note in tmp_path.glob("late*")}) > 1  # workers on both nodes


@pytest.mark.slow
def test_results_that_fill_the_object_store_are_all_received(pool, task):
    with pool() as workers:
        kept = answers(workers, *(task(f"large{i}", "give_much") for i in range(6)))
    assert [len(array) for array in kept.values()] == [4_000_000] * 6  # 32 MB each, all of them kept
    assert all(array.flags.owndata for array in kept.values())


@pytest.mark.slow
def test_cluster_that_has_no_room_for_a_worker_or_does_not_answer_is_refused(pool, cluster):
    with pytest.raises(ConfigError, match="No node of the cluster has room for a worker with 64 CPUs and 0 GPU"):
        pool(cluster=RayConfig(address=cluster.address, cpus=64))
    with pytest.raises(ConfigError, match=r"The Ray cluster of 127\.0\.0\.1:1 cannot be used: .* refused"):
        pool(cluster=RayConfig(address="127.0.0.1:1"))


STUDY = {
    "methods": ["base", "ml", "ml_featextr", "finetune", "freezing", "blend"],
    "learning_curve": {"targets": ["slme"], "shares": [0.5]},
    "budget": {"ml_trials": 4, "dl_trials": 2, "seconds": 600},
    "shards": {"only": ["slme"]},
}


def written(root):
    """The files of a target's results by name, apart from those that hold times."""
    folder = root / "results/tiny/only/slme"
    check_digests(folder / "model")
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    timed = ("runs.json", "trials.parquet", "SHA256SUMS", ".keras")
    return {name: (folder / name).read_bytes() for name in files if not name.endswith(timed)}


def left_on_nodes():
    """Folders of inputs in the temporary folder, which have 32 digits in their names."""
    return {path.name for path in Path(tempfile.gettempdir()).glob("crossprop-*") if len(path.name) == 42}


@pytest.mark.slow
def test_study_has_the_same_results_as_on_one_machine_without_a_shared_folder(
    tmp_path, tiny_params, write_study, cluster, further_node, monkeypatch
):
    further_node()
    kept = left_on_nodes()
    for name, compute in (
        ("local", {}),
        ("ray", {"executor": "ray", "workers": 0, "ray": {"address": cluster.address}}),
    ):
        write_study(tmp_path / name)
        params = tiny_params(compute, **STUDY)
        lines = list[str]()
        monkeypatch.chdir(tmp_path / name)  # its paths mean nothing to the workers of the cluster
        run_targets(params, ["slme"], StudyPaths.of(params.study), lambda digests: lambda cell: "", lines.append)
        assert not [line for line in lines if "FAILED" in line]
    assert [int(line.split()[-1]) > 0 for line in lines if line.startswith("Ray: tasks by node")] == [True]
    local, ray = (written(tmp_path / name) for name in ("local", "ray"))
    assert {"cells.json", "winners.json", "predictions.parquet", "model/model.json"} <= local.keys()
    assert sorted(name for name in local.keys() | ray.keys() if local.get(name) != ray.get(name)) == []
    assert left_on_nodes() == kept


@pytest.mark.slow
def test_networks_pretrained_on_two_nodes_are_those_of_one_machine(
    tmp_path, tiny_values, pretrained_source, pretrained_joint, cluster, further_node, crossprop, monkeypatch
):
    further_node()
    shutil.copytree(pretrained_source / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def pretrain():
        Path("params.yaml").write_text(yaml.safe_dump(tiny_values))
        return crossprop("study", "pretrain")

    tiny_values["study"] |= JOINT
    tiny_values["compute"]["ray"] = {"address": cluster.address}
    for told in ("with 1 threads each", "all 2 networks are there"):
        status, out, err = pretrain()
        assert (status, told in out) == (0, True), out + err
    paths, before = StudyPaths("tiny"), pretrained_joint.parent
    for name in (SOURCE, "all_sources"):
        folder = paths.source_model(name)
        check_digests(folder)
        one, other = load_provenance(before / name), load_provenance(folder)
        assert {key for key in one if one[key] != other[key]} <= {"seconds", "peak_memory"}
        for file in ("history.csv", "scaling.npy"):
            kept = before / name / file
            assert not kept.exists() or (folder / file).read_bytes() == kept.read_bytes()
    client = open_client("sqlite:///mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "tiny/sources"]
    assert {run.info.run_name for run in client.search_runs([experiment.experiment_id])} == {SOURCE, "all_sources"}

    shutil.rmtree("data/features")
    del tiny_values["study"]["joint"]
    tiny_values["study"]["edition"] = "full"
    status, _, err = pretrain()
    assert (status, "Not pretrained: formation_energy (DataError" in err) == (1, True), err
