import multiprocessing
import os
import socket
import subprocess

from crossprop.paths import StudyPaths
from crossprop.tracking.provenance import (
    PROCESS_TAG,
    PROJECT_RUN,
    git_state,
    open_study_context,
    process_is_gone,
    process_tags,
    reap_dead_runs,
)
from crossprop.tracking.store import open_client


def _git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_git_state_knows_the_commit_and_whether_the_code_differs(tmp_path):
    assert git_state(tmp_path).commit is None
    _git(tmp_path, "init", "-b", "main")
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1", encoding="utf-8")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    clean = git_state(tmp_path)
    assert (len(clean.commit), clean.branch, clean.dirty) == (40, "main", False)
    (tmp_path / "dvc.lock").write_text("2", encoding="utf-8")
    assert not git_state(tmp_path).dirty
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert git_state(tmp_path).dirty


def test_only_a_process_of_this_machine_that_has_ended_counts_as_gone():
    child = multiprocessing.get_context("spawn").Process(target=os.getpid)
    child.start()
    child.join()
    assert process_is_gone({PROCESS_TAG: f"{socket.gethostname()} {child.pid} 1"})
    assert process_is_gone({PROCESS_TAG: f"{socket.gethostname()} {os.getpid()} 1"})  # its id was given away
    assert not process_is_gone({PROCESS_TAG: f"another-host {child.pid} 1"})
    assert not process_is_gone(process_tags())
    assert not process_is_gone({})


def test_runs_of_dead_processes_are_ended_and_others_left_running(uri):
    client = open_client(uri)
    gone = {PROCESS_TAG: f"{socket.gethostname()} {os.getpid()} 1", "crossprop.study": "demo"}
    dead = client.create_run("0", tags=gone).info.run_id
    alive = client.create_run("0", tags={**process_tags(), "crossprop.study": "demo"}).info.run_id
    other = client.create_run("0", tags={**gone, "crossprop.study": "another"}).info.run_id
    assert reap_dead_runs(client, "demo") == [dead]
    assert [client.get_run(r).info.status for r in (dead, alive, other)] == ["KILLED", "RUNNING", "RUNNING"]


def test_run_of_mlflow_run_is_named_after_its_stage_and_claimed_so_that_a_kill_is_noticed(
    uri, tmp_path, tiny_params, monkeypatch
):
    client = open_client(uri)
    tags = {"mlflow.project.entryPoint": "transfer"}
    own, whole, named = (
        client.create_run("0", tags=tags, run_name=name).info.run_id for name in (None, None, "mine")
    )
    for run_id in (own, whole, named):
        client.log_param(run_id, "shard", "all")
        client.log_param(run_id, "params", "params.yaml")
    for run_id in (own, named):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        monkeypatch.setenv(PROJECT_RUN, whole)
        open_study_context(tiny_params(), StudyPaths("tiny", tmp_path), {})
    runs = [client.get_run(run_id) for run_id in (own, whole, named)]
    assert [run.info.run_name for run in runs] == ["transfer all", "transfer all", "mine"]
    assert {run.data.tags["crossprop.study"] for run in runs} == {"tiny"}
    assert [PROCESS_TAG in run.data.tags for run in runs] == [True, False, True]
    assert not process_is_gone(runs[0].data.tags)
