import multiprocessing
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

from crossprop import cli
from crossprop.errors import StoreOutOfReachError, TrackingError
from crossprop.tracking import store as store_module
from crossprop.tracking.runs import ensure_experiment
from crossprop.tracking.store import open_client, prepare_store, store_uri, tracking_error


def _prepare_and_count(uri, barrier, answers):
    barrier.wait()
    try:
        prepare_store(uri)
        answers.put(len(open_client(uri).search_experiments()))
    except Exception as error:  # the parent shows it
        answers.put(repr(error))


def test_eight_processes_may_race_for_the_first_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store", "crossprop.tracking.store"])
    barrier, answers = context.Barrier(8), context.Queue()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    workers = [context.Process(target=_prepare_and_count, args=(uri, barrier, answers)) for _ in range(8)]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=250) for _ in workers] == [1] * 8
    for worker in workers:
        worker.join(timeout=PATIENCE)
    assert not list(tmp_path.glob("*.new"))


def test_store_has_statistics_and_the_environment_wins(uri, tmp_path, monkeypatch):
    assert store_uri(root=tmp_path) == uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)  # as mlflow run leaves it to a child
    assert prepare_store(store_uri(root=Path("/elsewhere"))) == uri
    assert "MLFLOW_RUN_ID" not in os.environ
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT count(*) FROM sqlite_stat1").fetchone()[0] > 0
    assert open_client(uri).get_experiment("0").name == "mlflow run"


def test_locked_database_is_named_after_a_bounded_wait(uri, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "WAIT_SECONDS", 0.5)
    holder = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(TrackingError, match="failed while opening it: another process holds it"):
            prepare_store(uri)
    finally:
        holder.close()
    prepare_store(uri)


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (lambda good: b"my notes, " * 100, "damaged or is no SQLite database"),
        (lambda good: good[: 200 * 1024], "damaged"),
    ],
)
def test_damaged_file_is_named_and_left_alone(uri, tmp_path, spoiled, message):
    path = tmp_path / "mlflow.db"
    path.write_bytes(spoiled(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=message):
        prepare_store(uri)
    assert path.read_bytes() == before


def test_database_of_something_else_or_of_another_mlflow_is_refused(uri, tmp_path):
    with sqlite3.connect(tmp_path / "recipes.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(TrackingError, match="not MLflow's: it holds recipes"):
        prepare_store(f"sqlite:///{tmp_path}/recipes.db")
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ff01dd42b621'")
    with pytest.raises(TrackingError, match="mlflow db upgrade"):
        open_client(prepare_store(uri))


def test_full_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))
    with pytest.raises(TrackingError, match="the disk is full"):
        prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "advice", "waits"),
    [
        ("attempt to write a readonly database", "cannot be written", False),
        ("was not in a valid JSON format", "no MLflow server", False),
        ("403 Client Error: FORBIDDEN for url", "--allowed-hosts", False),
        ("something new", "something new", False),
        ("too many 500 error responses", "Look at its log", True),
        ("API request to endpoint /runs/create failed with error code 503 != 200.", "nothing answers", True),
    ],
)
def test_error_says_what_happened_to_which_store_and_whether_waiting_helps(said, advice, waits):
    store = "https://ann:secret@host"
    error = tracking_error(f"{store}: {said}", store, "recording cell ab12")
    assert "https://ann:***@host failed while recording cell ab12" in str(error)
    assert advice in str(error)
    assert "secret" not in str(error)
    assert isinstance(error, StoreOutOfReachError) is waits


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 failed while connecting: nothing answers there"),
        ("./mlruns", "no longer supports"),
        ("file:///tmp/mlruns", "no longer supports"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////proc/nowhere/mlflow.db", r"/proc/nowhere/mlflow\.db failed while opening it"),
        ("sqlite:////tmp/a?b/mlflow.db", r"/tmp/a\?b/mlflow\.db holds '\?'"),
    ],
)
def test_uri_that_cannot_work_is_refused(uri, message):
    with pytest.raises(TrackingError, match=message):
        prepare_store(uri)


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a%41", "a#b"])
def test_folder_that_mlflow_would_mistake_is_refused_by_every_command(tmp_path, monkeypatch, capsys, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")  # of the folder above, and of the neighbours
    for folder in (name, "a", "aA", "a b"):
        (tmp_path / folder).mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path / name)
    for command in (["models"], ["promote", "x"], ["rollback", "x"], ["relocate"], ["ui"], ["serve"]):
        monkeypatch.setattr(sys, "argv", ["crossprop", *command])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 1
        assert f"{name}/mlflow.db holds '{name.strip('ab2041')}'" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_with_a_blank_keeps_its_runs_and_files(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "my project é"
    folder.mkdir()
    client = open_client(prepare_store(store_uri(root=folder)))
    run = client.create_run(ensure_experiment(client, "demo/gap", "")).info
    client.log_text(run.run_id, "kept", "note.txt")
    assert (folder / "mlruns" / "demo" / "gap" / run.run_id / "artifacts" / "note.txt").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == [folder.name]
