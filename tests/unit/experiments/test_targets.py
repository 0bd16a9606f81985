"""Two targets in one pool of real workers, with methods that are quick."""

import numpy as np
import pytest
from filelock import FileLock
from made import Idle, make_cell

from crossprop.errors import CellError, DataError, StoreError
from crossprop.experiments.executor import InlinePool
from crossprop.experiments.progress import Progress
from crossprop.experiments.targets import run_targets
from crossprop.paths import StudyPaths

STUDY = {
    "targets": ["slme", "spillage"],
    "shards": {"both": ["spillage", "slme"]},
    "sources": [],
    "methods": ["base", "ml", "boost", "blend"],
    "budget": {"ml_trials": 4, "dl_trials": 1, "seconds": 600},
}


@pytest.fixture
def start(tmp_path, tiny_params, write_target, monkeypatch):
    """Runs both targets of a study in an executor of a kind; keywords change the study."""
    for target, n in (("slme", 30), ("spillage", 90)):
        write_target(tmp_path, target=target, n=n, seed=n)

    def run(executor=Idle, targets=("slme", "spillage"), **study):
        params = tiny_params(**(STUDY | study))
        paths = StudyPaths.of(params.study, tmp_path)
        run_targets(params, targets, paths, lambda digests: lambda cell: "", [].append, pool=executor)

    run.paths = StudyPaths("tiny", tmp_path)
    monkeypatch.setattr(Idle, "asked", [])
    return run


def test_tasks_of_an_earlier_target_come_first(start):
    start()
    costs = {t: [c for target, _, c in Idle.asked if target == t] for t in ("slme", "spillage")}
    assert [len(c) for c in costs.values()] == [3, 3]
    assert min(costs["slme"]) > max(costs["spillage"])
    assert len(set(np.round(costs["spillage"], 3))) > 1  # and the dearer ones of a target before the others


def test_target_that_another_process_works_on_stops_the_shard_before_it_begins(start):
    lock = start.paths.lock("spillage")
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(StoreError, match="works on tiny/spillage already"):
        start()
    assert Idle.asked == []
    with FileLock(start.paths.lock("slme"), timeout=0):
        pass  # it was given back


@pytest.mark.parametrize(
    ("targets", "gone", "error", "message"),
    [
        (["slme", "spillage"], "prepared/tiny/spillage.parquet", DataError, "Run 'dvc repro prepare'"),
        (["slme"], "prepared/tiny/slme.parquet", DataError, r"slme\.parquet cannot be read: .*Parquet.*Run 'dvc"),
        (["slme"], "features/tiny/slme/elemental_fractions.npy", DataError, "dvc repro featurize"),
    ],
)
def test_what_is_unknown_or_missing_is_refused_before_any_task(start, targets, gone, error, message):
    if gone:
        path = start.paths.root / "data" / gone
        path.write_bytes(path.read_bytes()[:100]) if "Parquet" in message else path.unlink()
    with pytest.raises(error, match=message):
        start(targets=targets)
    assert Idle.asked == []


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        (
            lambda task: task.name == "screening",
            r"^not one of the 2 cells of tiny/slme could be computed; .* CellError: out of luck$",
        ),
        (
            lambda task: getattr(task, "always_save", False) and task.fold == 1,
            r"^models of the winner of tiny/slme are gone .*: fold_01 of ml\(EF\)\. Run the stage",
        ),
    ],
)
def test_target_without_a_result_or_a_model_is_named_and_the_others_are_written(start, fails, message):
    def unlucky(run, **options):
        def work(task):
            if task.cell.target == "slme" and fails(task):
                raise CellError("out of luck")
            return run(task)

        return InlinePool(work, **options)

    study = {"methods": ["base", "ml"], "shards": {}}
    with pytest.raises(CellError, match=message):
        start(unlucky, **study)
    assert not start.paths.results("slme").exists()
    assert (start.paths.results("spillage") / "model" / "model.json").is_file()
    start(InlinePool, **study)
    assert (start.paths.results("slme") / "model" / "fold_01").is_dir()


@pytest.mark.parametrize(
    ("planned", "left"),
    [
        (None, [None, "0:50", "0:30", "0:00"]),  # one of 12 tasks tells nothing yet
        (120.0, ["1:50", "1:40", "1:00", "0:00"]),  # the plan says two minutes, the tasks say one
    ],
)
def test_time_left_follows_the_plan_at_first_and_the_finished_tasks_later(planned, left, monkeypatch):
    now, lines = [0.0], list[str]()
    monkeypatch.setattr("crossprop.experiments.progress.monotonic", lambda: now[0])
    progress = Progress("demo", lines.append, planned)
    progress.expect("slme", 12)
    progress.begin()
    for _ in range(12):
        now[0] += 5.0
        progress.step(make_cell("ml"), "fold_00 of ml(EF)")
    shown = [line.partition("about ")[2].partition(" left")[0] or None for line in lines]
    assert [shown[n] for n in (0, 1, 5, 11)] == left
