"""Two targets in one pool of real workers, with methods that are quick."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from made import HereAndNow, Idle, Recorder

from crossprop.config import Params
from crossprop.errors import CellError, ConfigError, DataError, StoreError
from crossprop.experiments import targets as stage
from crossprop.experiments.fingerprint import data_digest
from crossprop.experiments.results import CellResult
from crossprop.experiments.targets import run_target, run_targets
from crossprop.experiments.winners import TargetOutcome
from crossprop.paths import StudyPaths

STUDY: dict[str, Any] = {
    "targets": ["slme", "spillage"],
    "shards": {"both": ["spillage", "slme"]},
    "sources": [],
    "methods": ["base", "ml", "boost", "blend"],
    "budget": {"ml_trials": 4, "dl_trials": 1, "seconds": 600},
}
FILES = {
    "cells.json", "runs.json", "winners.json", "predictions.parquet", "history.parquet", "trials.parquet",
    "learning_curve.parquet", "model",
}  # fmt: skip


class Done(NamedTuple):
    """A finished shard."""

    params: Params
    paths: StudyPaths
    outcomes: dict[str, TargetOutcome]
    recorder: Recorder

    def read(self, target: str, name: str) -> Any:
        """A table of a target's results."""
        return json.loads((self.paths.results(target) / name).read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_params, write_target):
    root = tmp_path_factory.mktemp("shard")
    write_target(root, target="slme", n=60)
    write_target(root, target="spillage", n=50, seed=5)
    params = tiny_params(compute={"workers": 2}, **STUDY)
    paths, recorder = StudyPaths.of(params.study, root), Recorder()
    outcomes = run_targets(params, ["slme", "spillage"], paths, recorder, lambda line: None)
    return Done(params, paths, outcomes, recorder)


@pytest.mark.parametrize("target", ["slme", "spillage"])
def test_every_target_of_a_shard_has_a_whole_folder(done, target):
    assert done.paths.results(target).parent.name == "both"
    assert {path.name for path in done.paths.results(target).iterdir()} == FILES
    results = [CellResult.from_dict(values) for values in done.read(target, "cells.json")]
    assert [r.label for r in results] == ["base", "ml(EF)", "boost(EF+PA)", "blend"]
    assert {r.target for r in results} == {target}
    assert results == [outcome.result for outcome in done.outcomes[target].outcomes]
    assert all(len(r.cv_mae) == 2 and r.failure is None for r in results)


def test_recorder_knows_the_data_of_every_target_and_gets_every_cell_once(done):
    tables = {t: pd.read_parquet(done.paths.prepared(t)) for t in ("slme", "spillage")}
    assert done.recorder.digests == [{t: data_digest(table) for t, table in tables.items()}]
    recorded = [outcome.result for outcome in done.recorder.outcomes]
    assert len(recorded) == len({r.cell for r in recorded}) == 8
    for target in tables:
        runs = {entry["cell"]: entry["run_id"] for entry in done.read(target, "runs.json")}
        assert runs == {r.cell: f"run of {r.cell}" for r in recorded if r.target == target}


@pytest.mark.parametrize("target", ["slme", "spillage"])
def test_served_model_gives_the_logged_predictions_back(done, target):
    from crossprop.data.compositions import fraction_matrix
    from crossprop.models.saved import load_predictor

    table = pd.read_parquet(done.paths.results(target) / "predictions.parquet")
    winner = done.read(target, "winners.json")["winner"]
    logged = table[(table["cell"] == winner) & (table["split"] == "test")]
    predictor = load_predictor(done.paths.results(target) / "model")
    predicted = predictor.predict(fraction_matrix(logged["formula"]))
    assert predicted == pytest.approx(logged["y_pred_ensemble"].to_numpy(), rel=1e-6)


def test_same_shard_again_computes_nothing(done, monkeypatch):
    monkeypatch.setattr(stage.WorkerPool, "submit", lambda *task: pytest.fail("computed again"))
    outcomes = run_targets(done.params, ["spillage", "slme"], done.paths, Recorder(), lambda line: None)
    for target, outcome in outcomes.items():
        assert [o.result for o in outcome.outcomes] == [o.result for o in done.outcomes[target].outcomes]


def test_targets_do_not_depend_on_those_beside_them(done, tmp_path, tiny_params, write_target):
    write_target(tmp_path, target="spillage", n=50, seed=5)
    params = tiny_params(compute={"workers": 1}, **STUDY)
    alone = run_target(
        params, "spillage", StudyPaths.of(params.study, tmp_path), Recorder(), lambda line: None
    )
    together = done.outcomes["spillage"]
    assert [o.result for o in alone.outcomes] == [o.result for o in together.outcomes]
    assert not StudyPaths.of(params.study, tmp_path).results("slme").exists()


@pytest.fixture
def idle(monkeypatch):
    monkeypatch.setattr(stage, "WorkerPool", Idle)
    monkeypatch.setattr(Idle, "asked", [])
    return Idle


def test_tasks_of_an_earlier_target_come_first(tmp_path, tiny_params, write_target, idle):
    write_target(tmp_path, target="slme", n=30)
    write_target(tmp_path, target="spillage", n=90, seed=5)
    params = tiny_params(**STUDY)
    run_targets(
        params, ["slme", "spillage"], StudyPaths.of(params.study, tmp_path), Recorder(), lambda line: None
    )
    costs = {t: [c for target, _, c in idle.asked if target == t] for t in ("slme", "spillage")}
    assert [len(c) for c in costs.values()] == [3, 3]
    assert min(costs["slme"]) > max(costs["spillage"])
    assert len(set(np.round(costs["spillage"], 3))) > 1  # and the dearer ones of a target before the others


def test_target_that_another_process_works_on_stops_the_shard_before_it_begins(
    tmp_path, tiny_params, write_target, idle
):
    for target in ("slme", "spillage"):
        write_target(tmp_path, target=target, n=30)
    params = tiny_params(**STUDY)
    paths = StudyPaths.of(params.study, tmp_path)
    paths.lock("spillage").parent.mkdir(parents=True)
    with FileLock(paths.lock("spillage")), pytest.raises(StoreError, match="works on tiny/spillage already"):
        run_targets(params, ["slme", "spillage"], paths, Recorder(), lambda line: None)
    assert idle.asked == []
    with FileLock(paths.lock("slme"), timeout=0):
        pass  # it was given back


def test_target_of_another_study_is_refused(tmp_path, tiny_params, idle):
    params = tiny_params(**STUDY)
    with pytest.raises(ConfigError, match=r"'klu' is no target of the study tiny: \['slme', 'spillage'\]"):
        run_targets(params, ["slme", "klu"], StudyPaths("tiny", tmp_path), Recorder(), lambda line: None)


def test_unprepared_target_says_which_stage_makes_it(tmp_path, tiny_params, write_target, idle):
    write_target(tmp_path, target="slme", n=30)
    params = tiny_params(**STUDY)
    with pytest.raises(DataError, match=r"spillage\.parquet cannot be read.*Run 'dvc repro prepare'"):
        run_targets(
            params,
            ["slme", "spillage"],
            StudyPaths.of(params.study, tmp_path),
            Recorder(),
            lambda line: None,
        )


def test_target_without_a_result_is_named_and_the_others_are_written(
    tmp_path, tiny_params, write_target, monkeypatch
):
    for target in ("slme", "spillage"):
        write_target(tmp_path, target=target, n=40)
    monkeypatch.setattr(stage, "WorkerPool", HereAndNow)
    params = tiny_params(**(STUDY | {"methods": ["ml"], "shards": {}}))
    paths = StudyPaths.of(params.study, tmp_path)
    (paths.features("slme") / "elemental_fractions.npy").unlink()
    with pytest.raises(
        CellError, match=r"not one of the 1 cells of tiny/slme .* DataError: No feature matrix"
    ):
        run_targets(params, ["slme", "spillage"], paths, Recorder(), lambda line: None)
    assert (paths.results("spillage") / "winners.json").is_file()
    assert not paths.results("slme").exists()


def test_models_that_cannot_be_fitted_again_are_named_and_the_other_targets_are_written(
    tmp_path, tiny_params, write_target, monkeypatch
):
    for target in ("slme", "spillage"):
        write_target(tmp_path, target=target, n=40)

    class Failing(HereAndNow):
        def __init__(self, run: Any, **options: Any) -> None:
            def work(task: Any) -> Any:
                if task.cell.target == "slme" and getattr(task, "always_save", False) and task.fold == 1:
                    raise CellError("out of luck")
                return run(task)

            super().__init__(work, **options)

    monkeypatch.setattr(stage, "WorkerPool", Failing)
    params = tiny_params(**(STUDY | {"methods": ["base", "ml"]}))
    paths = StudyPaths.of(params.study, tmp_path)
    gone = r"^models of the winner of tiny/slme are gone .*: fold_01 of ml\(EF\)\. Run the stage again$"
    with pytest.raises(CellError, match=gone):
        run_targets(params, ["slme", "spillage"], paths, Recorder(), lambda line: None)
    assert not paths.results("slme").exists()
    assert (paths.results("spillage") / "model" / "model.json").is_file()
    monkeypatch.setattr(stage, "WorkerPool", HereAndNow)
    run_targets(params, ["slme", "spillage"], paths, Recorder(), lambda line: None)
    assert (paths.results("slme") / "model" / "fold_01").is_dir()
