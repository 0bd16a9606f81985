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
    process_tags,
    reap_dead_runs,
)
from crossprop.tracking.store import open_client


def test_git_state_knows_the_commit_and_whether_the_code_differs(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert git_state(tmp_path).commit is None
    git("init", "-b", "main")
    for name in ("code.py", "dvc.lock"):
        (tmp_path / name).write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "dvc.lock").write_text("2", encoding="utf-8")
    clean = git_state(tmp_path)
    assert (len(clean.commit), clean.branch, clean.dirty) == (40, "main", False)
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert git_state(tmp_path).dirty


def test_runs_of_dead_processes_are_ended_and_others_left_running(uri):
    child = multiprocessing.get_context("spawn").Process(target=os.getpid)
    child.start()
    child.join()
    client = open_client(uri)

    def run(process, study="demo"):
        return client.create_run("0", tags={PROCESS_TAG: process, "crossprop.study": study}).info.run_id

    here = socket.gethostname()
    dead = {run(f"{here} {child.pid} 1"), run(f"{here} {os.getpid()} 1")}  # the latter id was given away
    busy = [process_tags()[PROCESS_TAG], f"elsewhere {child.pid} 1"]
    alive = [*map(run, busy), run(f"{here} {child.pid} 1", "another")]
    assert set(reap_dead_runs(client, "demo")) == dead
    assert {client.get_run(run_id).info.status for run_id in dead} == {"KILLED"}
    assert {client.get_run(run_id).info.status for run_id in alive} == {"RUNNING"}


def test_run_of_mlflow_run_is_named_after_its_stage_and_claimed(uri, tmp_path, tiny_params, monkeypatch):
    client = open_client(uri)
    own, whole, named = (
        client.create_run("0", tags={"mlflow.project.entryPoint": "transfer"}, run_name=name).info.run_id
        for name in (None, None, "mine")
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
