"""A store that is moved or copied with its checkout: said, and put right by one command."""

import contextlib
import shutil
import sqlite3
import sys

import pytest
from registries import NAME, add_version, client_of, evidence_table, make_model

from crossprop import cli
from crossprop.errors import TrackingError
from crossprop.tracking.registry import find_version, predictor_folder
from crossprop.tracking.runs import ensure_experiment
from crossprop.tracking.store import prepare_store, relocate


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


def test_moved_checkout_says_so_and_is_repaired(checkout, tmp_path, monkeypatch, capsys):
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
    monkeypatch.setattr(sys, "argv", ["crossprop", "relocate"])
    with contextlib.suppress(SystemExit):
        cli.main()
    assert "1 runs, 0 logged models, 1 model versions" in capsys.readouterr().out
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


def test_store_copied_without_its_files_goes_on_with_them_and_is_not_cut_off(checkout, tmp_path):
    root, _ = checkout
    alone = tmp_path / "alone" / "mlflow.db"
    alone.parent.mkdir()
    shutil.copy(root / "mlflow.db", alone)
    uri = f"sqlite:///{alone}"
    prepare_store(uri)
    assert predictor_folder(uri, find_version(uri, NAME)).is_dir()
    with pytest.raises(TrackingError, match=r"does not hold the files of demo\.bulk_modulus version 1"):
        relocate(uri)
    assert predictor_folder(uri, find_version(uri, NAME)).is_dir()
