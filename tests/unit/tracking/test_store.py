"""The tracking store, and the registry in it."""

import contextlib
import json
import multiprocessing
import os
import shutil
import socket
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from registries import NAME, add_version, client_of, evidence_table, logged, make_model
from rich.text import Text
from waiting import PATIENCE

from crossprop.cli.registry import history_lines, overview_rows, overview_table
from crossprop.errors import StoreOutOfReachError, TrackingError, UnknownModelError
from crossprop.tracking import registry, ui
from crossprop.tracking import store as store_module
from crossprop.tracking.gates import judge
from crossprop.tracking.registry import all_models, assert_complete, find_version, predictor_folder
from crossprop.tracking.runs import ensure_experiment, record_cell
from crossprop.tracking.store import open_client, prepare_store, relocate, store_uri, tracking_error, without_passwords

PREDICTOR = {"python_function": {"artifacts": {"predictor": {"path": "../../secrets"}}}}
OUTSIDE = json.dumps({"flavors": PREDICTOR})


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


def test_database_of_something_else_or_of_another_mlflow_and_a_damaged_one_are_refused(uri, tmp_path):
    path = tmp_path / "mlflow.db"
    whole = path.read_bytes()
    for damaged in (whole[: 200 * 1024], b"my notes, " * 100):
        path.write_bytes(damaged)
        with pytest.raises(TrackingError, match="damaged"):
            prepare_store(uri)
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
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


def test_error_says_what_happened_to_which_store_and_whether_waiting_helps():
    for said, advice, waits in (
        ("attempt to write a readonly database", "cannot be written", False),
        ("was not in a valid JSON format", "no MLflow server", False),
        ("403 Client Error: FORBIDDEN for url", "--allowed-hosts", False),
        ("too many 500 error responses", "Look at its log", True),
        ("500 Server Error: INTERNAL SERVER ERROR for url", "Look at its log", True),
        ("API request to endpoint /a failed with error code 503 != 200.", "database or object store", True),
        ("HTTPConnectionPool(host='mlflow', port=5000): Read timed out.", "database or object store", True),
        ("(psycopg2.OperationalError) Connection refused", "nothing answers there", True),
    ):
        store = "https://ann:secret@host"
        error = tracking_error(f"{store}: {said}", store, "recording cell ab12")
        assert "https://ann:***@host failed while recording cell ab12" in str(error)
        assert advice in str(error)
        assert "secret" not in str(error)
        assert isinstance(error, StoreOutOfReachError) is waits


def test_no_password_of_an_address_is_shown():
    for shown, hidden in (("db://u:***@h/x", "se:c@re/t"), ("db://h/x?user=u&password=***&a=b", "secret")):
        assert without_passwords(shown.replace("***", hidden)) == shown


def test_server_behind_a_login_gets_the_token(monkeypatch):
    asked = []

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("Authorization"))
            self.send_response(200 if asked[-1] == "Bearer secret" else 401)
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET  # noqa: N815

    with HTTPServer(("127.0.0.1", 0), Guarded) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(TrackingError, match="401"):
            prepare_store(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
        assert prepare_store(uri) == uri
        server.shutdown()
    assert asked == [None, "Bearer secret", "Bearer secret"]


def test_uri_that_cannot_work_is_refused():
    for uri, message in (
        ("http://127.0.0.1:9", "http://127.0.0.1:9 failed while connecting: nothing answers there"),
        ("file:///tmp/mlruns", "no longer supports"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////proc/nowhere/mlflow.db", r"/proc/nowhere/mlflow\.db failed while opening it"),
    ):
        with pytest.raises(TrackingError, match=message):
            prepare_store(uri)


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a%41", "a#b"])
def test_folder_that_mlflow_would_mistake_is_refused_by_every_command(tmp_path, monkeypatch, crossprop, name):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    prepare_store(f"sqlite:///{tmp_path / 'mlflow.db'}")  # of the folder above, and of the neighbours
    for folder in (name, "a", "aA", "a b"):
        (tmp_path / folder).mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path / name)
    for command in (["models"], ["promote", "x"], ["rollback", "x"], ["relocate"], ["ui"], ["serve"]):
        assert f"{name}/mlflow.db holds '{name.strip('ab2041')}'" in crossprop(*command).refusal
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


@pytest.fixture
def checkout(tmp_path, template_store, monkeypatch):
    """A folder with a store, a run and a version whose files lie in ``mlruns`` beside it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copy(template_store, root)
    monkeypatch.chdir(root)
    here = f"sqlite:///{root / 'mlflow.db'}"
    relocate(here)
    client = client_of(here)
    number = ensure_experiment(client, "demo/bulk_modulus", "")
    run = client.create_run(number)
    client.log_text(run.info.run_id, "kept", "note.txt")
    model = make_model(root / "mlruns" / "demo" / "bulk_modulus" / "m-1", evidence_table())
    add_version(here, model, alias="champion")
    add_version(here, make_model(tmp_path / "checkout" / "mlruns-of-another"), alias=None)  # not in mlruns
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the file is copied alone below
    return root, run.info.run_id


def test_moved_checkout_says_so_and_is_repaired(checkout, tmp_path, monkeypatch, crossprop):
    root, run_id = checkout
    moved = tmp_path / "elsewhere"
    root.rename(moved)
    monkeypatch.chdir(moved)
    uri = f"sqlite:///{moved / 'mlflow.db'}"
    moved_from = r"was moved: it names files in .*checkout/mlruns.*'crossprop relocate'"
    with pytest.raises(TrackingError, match=moved_from):
        prepare_store(uri)
    with pytest.raises(TrackingError, match="was moved"):
        predictor_folder(uri, find_version(uri, NAME))
    assert "1 runs, 0 logged models, 1 model versions" in crossprop("relocate").out
    assert predictor_folder(uri, find_version(uri, NAME)).is_relative_to(moved)
    prepare_store(uri)
    client = client_of(uri)
    assert client.get_run(run_id).info.artifact_uri.startswith(str(moved))
    assert [f.path for f in client.list_artifacts(run_id)] == ["note.txt"]
    assert find_version(uri, NAME, version=2).source == str(tmp_path / "checkout" / "mlruns-of-another")


def test_copied_checkout_does_not_write_into_the_one_it_was_copied_from(checkout, tmp_path):
    root, _ = checkout
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    uri = f"sqlite:///{copy / 'mlflow.db'}"
    with pytest.raises(TrackingError, match=r"is a copy: it still names files in .*checkout/mlruns"):
        prepare_store(uri)
    (line,) = relocate(uri, dry_run=True)
    assert "1 model versions would be changed" in line
    assert predictor_folder(uri, find_version(uri, NAME)).is_relative_to(root)
    relocate(uri)
    assert predictor_folder(uri, find_version(uri, NAME)).is_relative_to(copy)
    prepare_store(uri)
    original = f"sqlite:///{root / 'mlflow.db'}"
    assert predictor_folder(original, find_version(original, NAME)).is_relative_to(root)
    # without its files it goes on with those of the original and is not cut off from them
    alone = tmp_path / "alone" / "mlflow.db"
    alone.parent.mkdir()
    shutil.copy(root / "mlflow.db", alone)
    uri = f"sqlite:///{alone}"
    prepare_store(uri)
    assert predictor_folder(uri, find_version(uri, NAME)).is_dir()
    with pytest.raises(TrackingError, match=r"does not hold the files of demo\.bulk_modulus version 1"):
        relocate(uri)
    assert predictor_folder(uri, find_version(uri, NAME)).is_dir()


def test_what_cannot_be_opened_is_refused(monkeypatch):
    monkeypatch.setattr(ui.os, "execv", lambda *_: pytest.fail("it was started"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        for options, message in (
            ({"uri": "https://mlflow.example.org"}, "has a web interface already"),
            ({"port": 70000}, "Port 70000 on 127.0.0.1 cannot be used.*PORT=8000"),
            ({"host": "nowhere.invalid"}, r"'nowhere\.invalid' is unknown"),
            ({"port": port}, f"Port {port} on 127.0.0.1 cannot be used.*PORT={port + 1}"),
        ):
            with pytest.raises(TrackingError, match=message):
                ui.start_ui(**{"uri": "sqlite:////nowhere/mlflow.db"} | options)


def test_server_is_started_with_links(context, uri, tmp_path, monkeypatch, capsys, make_outcome):
    relocate(uri)  # the store is a copy
    record_cell(context, make_outcome())
    started = []
    monkeypatch.setattr(ui.os, "execv", lambda path, command: started.append(command))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ui.start_ui(uri, port=port)
    assert started[0][1:] == [
        "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--default-artifact-root", str(tmp_path / "mlruns"),
    ]  # fmt: skip
    number = open_client(uri).get_experiment_by_name("demo/bulk_modulus").experiment_id
    link = f"/#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=crossprop"
    assert f"demo/bulk_modulus {' ' * 22} http://127.0.0.1:{port}{link}\n" in capsys.readouterr().out


def test_versions_are_found_by_target_number_and_alias_and_deleted_or_foreign_ones_are_not(uri, good):
    add_version(uri, good, alias="champion")
    add_version(uri, good)
    champion = find_version(uri, "bulk_modulus")
    facts = (champion.study, champion.target, champion.version, champion.unit, champion.description)
    assert facts == ("demo", "bulk_modulus", "1", "GPa", "The bulk_modulus")
    assert champion.aliases == ("champion",)
    assert datetime.now(UTC) - champion.created < timedelta(minutes=5)
    assert find_version(uri, NAME, alias="challenger").version == "2"
    assert find_version(uri, NAME, version="v2").aliases == ("challenger",)
    client = client_of(uri)
    client.delete_model_version(NAME, "1")
    client.create_registered_model("recommender")
    client.create_model_version("recommender", "/somewhere")
    client.set_registered_model_alias("recommender", "champion", 1)
    assert [(m.name, m.holder("champion")) for m in all_models(uri)] == [(NAME, None)]


def test_what_is_not_there_is_named_with_what_there_is(uri, good):
    for registered in (NAME, "demo.gap", "other.gap"):
        add_version(uri, good, registered)
    for name, options, message in (
        ("bulkmodulus", {}, r"no registered model 'bulkmodulus' among 3\. Near names: demo\.bulk_modulus"),
        ("gap", {}, r"'gap' is a target of several studies: demo\.gap, other\.gap"),
        (NAME, {}, "the alias 'champion' .*Give it to one with 'crossprop promote demo.bulk_modulus'"),
        (NAME, {"version": 7}, r"no version 7 \(its versions: 1\)"),
        (NAME, {"alias": "previous"}, "Aliases that there are: challenger"),
    ):
        with pytest.raises(UnknownModelError, match=message):
            find_version(uri, name, **options)


def test_store_that_is_gone_is_named_and_a_new_one_is_read(uri, good, tmp_path, template_store):
    add_version(uri, good, alias="champion")
    assert all_models(uri)
    path = tmp_path / "mlflow.db"
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    with pytest.raises(StoreOutOfReachError, match=r"no registry at .*mlflow\.db"):
        all_models(uri)
    assert not path.exists()
    shutil.copy(template_store, path)
    assert all_models(uri) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: shutil.rmtree(model / "artifacts/model/fold_00"), "fold_00 is missing. Put"),
        (lambda model: (model / "artifacts/model/model.json").write_text("{"), "no readable model.json"),
        (shutil.rmtree, "MLmodel cannot be read"),
        (lambda model: (model / "MLmodel").write_text(OUTSIDE), "outside of the model"),
    ],
)
def test_damaged_files_are_named_with_what_to_do(uri, good, damage, message):
    add_version(uri, good, alias="champion")
    info = find_version(uri, NAME)
    assert predictor_folder(uri, info) == good / "artifacts" / "model"
    damage(good)
    with pytest.raises(TrackingError, match=rf"version 1 are incomplete: .*{message}"):
        predictor_folder(uri, info)


def test_remote_files_are_fetched_once_and_completely_or_not_at_all(uri, good, tmp_path, monkeypatch):
    add_version(uri, good, alias="champion")
    info = find_version(uri, NAME)
    monkeypatch.setattr(registry, "local_path", lambda location: None)
    cache = tmp_path / "cache"
    folder = predictor_folder(uri, info, cache)
    names = ["SHA256SUMS", "calibration", "elements.npz", "evidence.parquet", "fold_00", "model.json"]
    assert sorted(p.name for p in folder.iterdir()) == names
    assert_complete(uri, info)
    shutil.rmtree(good / "artifacts" / "model" / "fold_00")
    assert predictor_folder(uri, info, cache) == folder
    shutil.rmtree(folder.parents[1])
    with pytest.raises(TrackingError, match=r"version 1 are incomplete: .*fold_00 is missing"):
        predictor_folder(uri, info, cache)
    assert [p for p in cache.glob("*/*") if p.is_dir()] == []
    shutil.rmtree(good)
    with pytest.raises(TrackingError, match="version 1 are incomplete"):
        assert_complete(uri, info)


def test_copies_that_no_alias_names_are_removed_when_a_new_one_is_fetched(uri, good, tmp_path, monkeypatch):
    for _ in range(4):
        add_version(uri, good, alias=None)
    client_of(uri).set_registered_model_alias(NAME, "previous", 1)
    add_version(uri, good, "demo.other")
    monkeypatch.setattr(registry, "local_path", lambda location: None)
    cache = tmp_path / "cache"

    def fetch(number, name=NAME):
        return predictor_folder(uri, find_version(uri, name, version=number), cache)

    folders = [fetch(1), fetch(2), fetch(3), fetch(1, "demo.other")]
    assert all(folder.is_dir() for folder in folders)  # used a moment ago
    ago = time.time() - 2 * registry.KEPT_UNUSED_SECONDS
    for copy in cache.glob("*/demo*"):
        os.utime(copy, (ago, ago))
    killed = folders[0].parents[2] / "killed.tmp"
    killed.mkdir()
    fetch(3)
    fetch(4)
    assert [folder.is_dir() for folder in (*folders, killed)] == [True, False, True, True, False]
    assert fetch(2).is_dir()


def test_versions_in_different_units_are_not_compared(uri, tmp_path):
    add_version(uri, make_model(tmp_path / "a"), alias="champion", test_mae_ensemble=250, unit="MPa")
    add_version(uri, make_model(tmp_path / "b"), test_mae_ensemble=0.25, unit="GPa")
    (found,) = all_models(uri)
    assert [v.unit for v in found.versions] == ["GPa", "MPa"]
    (row,) = overview_rows([found])
    assert row["challenger_has_lower_mae"] is None
    cells = {c.header: list(c.cells) for c in overview_table([found]).columns}
    assert (cells["unit"], cells["challenger is"]) == (["MPa"], ["not comparable"])
    *_, compared = (g for g in judge(uri, *found.versions, logged) if g.key == "champion")
    assert compared.figure == "no evidence: champion v1 predicts in MPa, it in GPa"


def test_overview_shows_who_is_champion_and_whether_the_challenger_is_better(uri, good):
    odd = "demo.o'brien [odd]* Å"
    add_version(uri, good, alias="champion", test_mae_ensemble=2.0, method="ml")
    add_version(uri, good, test_mae_ensemble=1.5, method="blend", n_test=40)
    add_version(uri, good, odd, test_mae_ensemble=0.3)
    assert find_version(uri, odd, version=1).name == odd
    models = all_models(uri)
    modulus, other = overview_rows(models)
    assert (other["champion"], other["challenger"]["version"]) == (None, "1")
    assert (other["challenger_has_lower_mae"], modulus["challenger_has_lower_mae"]) == (None, True)
    assert (modulus["champion"]["holdout_mae"], modulus["challenger"]["holdout_rows"]) == (2.0, 40)
    cells = {c.header: list(c.cells) for c in overview_table(models).columns}
    assert cells["champion"] == ["v1 ml", "–"]
    assert cells["challenger is"] == ["lower (-25.0%)", "the first"]
    assert odd.removeprefix("demo.") in [Text.from_markup(cell).plain for cell in cells["target"]]
    moved = "The alias 'champion' was moved to version 1 by hand; who and when is not known."
    assert history_lines(models[0]) == [moved]
    assert [m.name for m in all_models(uri, "other")] == []
