"""Kills, full disks and rivals in the middle of `transfer`: what is finished stays, nothing is done or told twice.

These studies have no networks: `jax` is only named as the backend, so that workers start quickly.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from filelock import FileLock

from crossprop.config import Params, parse_params
from crossprop.errors import CellError, ConfigError, DataError, StoreError, TrackingError
from crossprop.experiments.results import NullRecorder
from crossprop.experiments.target import run_target
from crossprop.paths import StudyPaths
from crossprop.training.device import process_environment

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORKS: dict[str, Any] = {"methods": ["base", "ml"], "sources": []}
QUICK = {"workers": 1, "backend": "jax", "retries": 0}


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("jax", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def transfer(tmp_path):
    """Starts the stage's script on a study in a folder."""

    def start(root: Path) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "pipelines" / "transfer.py"), "--target", "slme"]
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_TRACK", "KERAS", "OMP"))
        }
        return subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def project(root: Path, params: Params, write_target) -> StudyPaths:
    """A folder to run stages in, with a configuration and a prepared target."""
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False))
    write_target(root)
    return StudyPaths("tiny", root)


def without_networks(values: dict[str, Any], algorithms: dict[str, Any], **study: Any) -> Params:
    """The tiny configuration with another zoo."""
    values["study"] |= {**NO_NETWORKS, **study}
    values["search"]["ml"]["algorithms"] = algorithms
    values["compute"] |= QUICK
    return parse_params(values)


def pieces(paths: StudyPaths) -> dict[str, int]:
    """Finished pieces with the time they were written."""
    notes = (paths.root / ".crossprop" / "cells").glob("*/*/*/report.json")
    return {
        note.parent.relative_to(paths.root).as_posix(): note.stat().st_mtime_ns
        for note in notes
        if not note.parent.name.endswith(".tmp")
    }


def tracked(root: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny/slme")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def results(paths: StudyPaths, name: str) -> Any:
    return json.loads((paths.results("slme") / name).read_text())


def test_killed_transfer_goes_on_where_it_stopped_and_tells_everything_once(
    tmp_path, tiny_values, write_target, transfer
):
    many_trees = {"n_estimators": {"low": 80, "high": 90, "integer": True, "default": 80}}
    params = without_networks(
        tiny_values,
        {"extra_trees": many_trees},
        folds=6,
        budget={"ml_trials": 3, "dl_trials": 1, "seconds": 600},
    )
    killed, straight = (project(tmp_path / name, params, write_target) for name in ("killed", "straight"))

    first = transfer(killed.root)
    deadline = time.monotonic() + 120
    while len(pieces(killed)) < 4:  # the regressor is tuned, and some of its folds are fitted
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = pieces(killed)
    assert 4 <= len(before) < 14
    assert not (killed.results("slme") / "cells.json").exists()
    assert not psutil.wait_procs(workers, timeout=10)[1]  # nobody is left who writes

    second = transfer(killed.root)
    output, errors = second.communicate(timeout=120)
    assert second.returncode == 0, errors
    assert f"tiny/slme: {len(before)} of 14 pieces are finished already, going on" in output
    assert "screened ml(EF)" not in output
    winner = results(killed, "winners.json")["winner"]
    stored = sum(f"{winner}/fold" in name for name in before)
    # the missing folds, and each once more at the end: only then is it known whose models are to be saved
    assert len(re.findall(r"fold \d/6 of ml", output)) == 6 - stored + 6
    after = pieces(killed)
    assert len(after) == 14
    assert {name for name in before if "fold" not in name and after[name] != before[name]} == set()
    runs = tracked(killed.root)
    assert sorted(run.data.tags["crossprop.cell"] for run in runs) == sorted(
        c["cell"] for c in results(killed, "cells.json")
    )
    assert {run.info.status for run in runs} == {"FINISHED"}

    run_target(params, "slme", straight, lambda frame, digest: NullRecorder(), lambda line: None)
    assert results(straight, "cells.json") == results(killed, "cells.json")


@pytest.mark.slow
def test_interrupted_transfer_says_so_in_one_line(tmp_path, tiny_values, write_target, transfer):
    slow = {"n_estimators": {"low": 900, "high": 999, "integer": True, "default": 900}}
    params = without_networks(tiny_values, {"extra_trees": slow}, folds=40)
    paths = project(tmp_path, params, write_target)
    process = transfer(tmp_path)
    deadline = time.monotonic() + 120
    while len(pieces(paths)) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "interrupted: what is finished is kept, run the same command to go on\n"
    assert len(pieces(paths)) >= 2


def test_two_transfers_of_one_target_do_not_meet(tmp_path, tiny_params, write_target, transfer):
    paths = project(tmp_path, tiny_params(**NO_NETWORKS, compute=QUICK), write_target)
    paths.lock("slme").parent.mkdir(parents=True)
    with FileLock(paths.lock("slme")):
        rival = transfer(tmp_path)
        output, errors = rival.communicate(timeout=120)
    assert rival.returncode == 1
    assert errors.startswith("StoreError: Another process works on tiny/slme already (")
    assert "Wait for it, or stop it." in errors
    assert "Traceback" not in errors
    assert output == ""
    assert pieces(paths) == {}


def test_lock_that_a_dead_process_left_behind_stops_nobody(tmp_path, tiny_params, write_target):
    paths = project(tmp_path, tiny_params(methods=["base"], sources=[]), write_target)
    paths.lock("slme").parent.mkdir(parents=True)
    paths.lock("slme").touch()
    outcome = computed(tiny_params(methods=["base"], sources=[], compute=QUICK), paths)
    assert outcome.outcomes[0].result.failure is None


def computed(params: Params, paths: StudyPaths, recorder: Any = None, lines: list[str] | None = None) -> Any:
    heard = [] if lines is None else lines
    return run_target(params, "slme", paths, lambda frame, digest: recorder or NullRecorder(), heard.append)


class Refusing:
    """A recorder whose store gives up after some cells."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.cells: list[str] = []

    def record(self, outcome):
        if not self.left:
            raise TrackingError("mlflow.db is locked. Close the other program.")
        self.left -= 1
        self.cells.append(outcome.result.cell)
        return f"run-{outcome.result.cell}"


def test_locked_tracking_store_costs_no_finished_piece(tmp_path, tiny_params, write_target):
    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path, params, write_target)
    with pytest.raises(TrackingError, match="is locked"):
        computed(params, paths, Refusing(1))
    before = pieces(paths)
    assert before
    recorder, lines = Refusing(99), []
    outcome = computed(params, paths, recorder, lines)
    assert lines[0] == f"tiny/slme: {len(before)} of 6 pieces are finished already, going on"
    assert len(recorder.cells) == len(set(recorder.cells)) == len(outcome.outcomes) == 2


def test_damaged_piece_is_named_and_computed_anew_once_it_is_gone(tmp_path, tiny_params, write_target):
    import shutil

    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path, params, write_target)
    first = computed(params, paths)
    piece = next(tmp_path.glob(".crossprop/cells/*/*/fold_00/predictions.npz"))
    piece.write_bytes(piece.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"fold_00 is damaged .*Delete that folder and run again"):
        computed(params, paths)
    shutil.rmtree(piece.parent)
    lines: list[str] = []
    again = computed(params, paths, lines=lines)
    assert [o.result for o in again.outcomes] == [o.result for o in first.outcomes]
    assert "5 of 6 pieces" in lines[0]


def test_lost_models_of_the_winner_are_fitted_again_to_the_same_numbers(tmp_path, tiny_params, write_target):
    import shutil

    params = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path, params, write_target)
    first = computed(params, paths)
    before = (paths.results("slme") / "predictions.parquet").read_bytes()
    for folder in tmp_path.glob(".crossprop/cells/*/*/fold_*/model"):
        shutil.rmtree(folder)
    shutil.rmtree(paths.results("slme"))
    again = computed(params, paths)
    assert again.winners.winner == first.winners.winner
    assert (paths.results("slme") / "predictions.parquet").read_bytes() == before
    assert len(list((paths.results("slme") / "model").glob("fold_*"))) == 2


def test_changed_recipe_of_one_method_leaves_the_others_finished(tmp_path, tiny_params, write_target):
    first = tiny_params(**NO_NETWORKS, compute=QUICK)
    paths = project(tmp_path, first, write_target)
    computed(first, paths)
    lines: list[str] = []
    more = tiny_params(**NO_NETWORKS, budget={"ml_trials": 3, "dl_trials": 1, "seconds": 900}, compute=QUICK)
    computed(more, paths, lines=lines)
    assert "3 of 6 pieces are finished already" in lines[0]  # the base: its screening and its two folds


def test_changed_data_make_every_cell_anew(tmp_path, tiny_params, write_target):
    params = tiny_params(methods=["base"], sources=[], compute=QUICK)
    paths = project(tmp_path, params, write_target)
    before = computed(params, paths).outcomes[0].result
    write_target(tmp_path, seed=5)
    lines: list[str] = []
    after = computed(params, paths, lines=lines).outcomes[0].result
    assert after.cell != before.cell
    assert after.test_mae != before.test_mae
    assert "finished already" not in lines[0]


@pytest.mark.parametrize(("damage", "word"), [("missing", "No such file"), ("truncated", "Parquet")])
def test_unreadable_prepared_table_says_which_stage_makes_it(
    tmp_path, tiny_params, write_target, damage, word
):
    params = tiny_params(methods=["base"], sources=[], compute=QUICK)
    paths = project(tmp_path, params, write_target)
    table = paths.prepared("slme")
    if damage == "missing":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"slme\.parquet cannot be read: .*{word}.*Run 'dvc repro prepare'"):
        computed(params, paths)


def test_target_of_another_study_is_refused(tmp_path, tiny_params):
    with pytest.raises(ConfigError, match=r"'spillage' is no target of the study tiny: \['slme'\]"):
        run_target(tiny_params(), "spillage", StudyPaths("tiny", tmp_path), lambda f, d: NullRecorder())


def test_failed_cell_is_reported_and_the_others_finish(tmp_path, tiny_values, write_target):
    nonsense = {"solver": {"choices": ["nonsense"], "default": "nonsense"}}
    params = without_networks(tiny_values, {"ridge": nonsense})
    paths = project(tmp_path, params, write_target)
    lines: list[str] = []
    base, ml = (o.result for o in computed(params, paths, lines=lines).outcomes)
    assert base.failure is None
    assert base.test_mae is not None
    assert "none of the 2 trials" in ml.failure
    assert "nonsense" in ml.failure
    assert any(line.split("] ")[-1].startswith("FAILED ml(EF): CellError") for line in lines)


def test_target_without_one_finished_cell_ends_with_an_error(tmp_path, tiny_params, write_target):
    params = tiny_params(methods=["base"], sources=[], folds=60, compute=QUICK)  # of 48 compositions
    paths = project(tmp_path, params, write_target)
    with pytest.raises(
        CellError, match=r"not one of the 1 cells of tiny/slme could be computed.*60 folds are impossible"
    ):
        computed(params, paths)
    assert not paths.results("slme").exists()


def test_strict_protocol_learns_from_fewer_rows_where_the_hold_out_repeats_them(
    tmp_path, tiny_params, write_target
):
    write_target(tmp_path, repeated=4)
    paths = StudyPaths("tiny", tmp_path)
    base = {"methods": ["base"], "sources": [], "compute": QUICK}
    counted = {
        protocol: computed(tiny_params(protocol=protocol, **base), paths).outcomes[0].result
        for protocol in ("published", "strict")
    }
    assert (counted["published"].n_train, counted["strict"].n_train) == (52, 48)
    assert counted["published"].n_test == counted["strict"].n_test == 12
    assert counted["published"].cell != counted["strict"].cell


def test_full_disk_ends_the_target_with_a_named_error(tmp_path, tiny_params, write_target, monkeypatch):
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    params = tiny_params(methods=["base"], sources=[], compute=QUICK)
    paths = project(tmp_path, params, write_target)
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", full)
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device"):
            computed(params, paths)
    assert not paths.results("slme").exists()
    assert computed(params, paths).outcomes[0].result.failure is None


def test_folder_that_cannot_be_written_to_is_named(tmp_path, tiny_params, write_target):
    params = tiny_params(methods=["base"], sources=[], compute=QUICK)
    paths = project(tmp_path, params, write_target)
    (tmp_path / ".crossprop").write_text("a file in the way")
    with pytest.raises(StoreError, match="mend the permissions"):
        computed(params, paths)
