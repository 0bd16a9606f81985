"""One target from prepared files to a registered model, with networks, in a real store; and a study that runs twice."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from crossprop.experiments.executor import InlinePool, WorkerPool
from crossprop.experiments.results import CellResult
from crossprop.experiments.targets import run_targets
from crossprop.methods import Method
from crossprop.paths import StudyPaths
from crossprop.report import figures
from crossprop.report.summary import summarize

METHODS = ["base", "ml_featextr", "finetune"]
REPEATED = 6
"""Training rows whose composition is in the hold-out, beside 48 others."""
TABLES = ("cells.csv", "targets.csv")


class Study(NamedTuple):
    """A target."""

    params: Any
    paths: StudyPaths

    def run(self):
        """Compute what is not computed; returns the lines of progress."""
        from crossprop.tracking.provenance import open_study_context
        from crossprop.tracking.runs import record_cell

        lines: list[str] = []

        def recorder(digests):
            return partial(record_cell, open_study_context(self.params, self.paths, digests))

        run_targets(self.params, ["slme"], self.paths, recorder, lines.append)
        return lines

    def read(self, name):
        """A file of the results, which lie in the folder of the shard."""
        path = self.paths.root / "results/tiny/only/slme" / name
        return pd.read_parquet(path) if path.suffix == ".parquet" else json.loads(path.read_text())

    def results(self):
        return [CellResult.from_dict(c) for c in self.read("cells.json")]


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_params, write_study):
    root = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        write_study(root, repeated=REPEATED)
        curve = {"targets": ["slme"], "shares": [0.25, 0.5]}
        params = tiny_params(methods=METHODS, shards={"only": ["slme"]}, learning_curve=curve)
        done = Study(params, StudyPaths.of(params.study, root))
        done.run()
        yield done


@pytest.fixture(scope="module")
def client(study):
    from crossprop.tracking.store import open_client

    return open_client(f"sqlite:///{study.paths.root / 'mlflow.db'}")


@pytest.fixture(scope="module")
def registered(study):
    from crossprop.tracking.registration import register_study

    (version,) = register_study(study.params, study.paths, lambda line: None)
    return version


def runs_of(client):
    experiment = client.get_experiment_by_name("tiny/slme")
    return client.search_runs([experiment.experiment_id])


def test_every_method_has_a_cross_validated_cell_whose_figures_follow_from_its_predictions(study):
    predictions = study.read("predictions.parquet")
    results = study.results()
    assert [r.method for r in results] == METHODS
    assert results[1].layer in ("hidden_14", "hidden_15", "hidden_16")
    assert [r.n_trials for r in results] == [0, 2, 1]
    for result in results:
        assert result.failure is None
        assert len(result.cv_mae) == 2
        assert result.test_mae_low <= result.test_mae <= result.test_mae_high
        assert (result.n_train, result.n_test) == (48 + REPEATED, 12)
        rows = predictions[(predictions["cell"] == result.cell) & (predictions["split"] == "test")]
        assert len(rows) == 12
        for column, mae in (("y_pred", result.test_mae), ("y_pred_ensemble", result.test_mae_ensemble)):
            assert np.abs(rows[column] - rows["y_true"]).mean() == pytest.approx(mae)


def test_winner_is_the_best_by_validation_and_alone_refitted_without_repeated_compositions(study):
    winners, results = study.read("winners.json"), study.results()
    best = min(results[1:], key=lambda r: r.cv_mae_mean)
    assert winners == {"best_sc": None, "best_tl": best.cell, "winner": best.cell}
    assert [r for r in results if r.strict_test_mae is not None] == [best]
    assert best.strict_test_mae != best.test_mae
    assert best.strict_test_mae == pytest.approx(best.test_mae, rel=0.5)
    curve = study.read("learning_curve.parquet")
    assert (list(curve["share"]), set(curve["cell"]), set(curve["side"])) == (
        [0.25, 0.5, 1.0], {best.cell}, {"transfer"},
    )  # fmt: skip
    assert curve["test_mae"].iloc[-1] == pytest.approx(best.test_mae)
    *few, whole = curve["n_train"]
    assert few == [round(share * whole) for share in (0.25, 0.5)]
    assert whole - REPEATED <= best.strict_n_train < whole


def test_same_command_again_computes_nothing_and_logs_nothing(study, client, monkeypatch):
    folder = study.paths.results("slme")
    names = ["cells.json", "winners.json", "model/model.json", "predictions.parquet"]
    run_ids = {entry["cell"]: entry["run_id"] for entry in study.read("runs.json")}
    before = {name: (folder / name).read_bytes() for name in names}

    monkeypatch.setattr(WorkerPool, "submit", lambda *task: pytest.fail("computed again"))
    # three screenings, six folds, and the strict refit and two shares of the chosen cell
    assert study.run() == ["tiny: 12 of 12 tasks are finished already, going on"]
    assert len(runs_of(client)) == 3
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert {entry["cell"]: entry["run_id"] for entry in study.read("runs.json")} == run_ids


def test_registered_model_gives_the_logged_predictions_back_in_a_fresh_process(study, registered, tmp_path):
    from crossprop.inference.predictor import ServedModel, predict_formulas

    table, winner = study.read("predictions.parquet"), study.read("winners.json")["winner"]
    predictions = table[(table["cell"] == winner) & (table["split"] == "test")].reset_index(drop=True)
    predictions[["formula"]].to_csv(tmp_path / "formulas.csv", index=False)
    code = (
        "import json, pathlib, pandas as pd, mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/tiny.slme@challenger')\n"
        "frame = pd.read_csv('formulas.csv', keep_default_na=False)\n"
        "answers = model.predict(frame).to_dict('list')\n"
        "pathlib.Path('answers.json').write_text(json.dumps(answers))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CROSSPROP", "KERAS", "PYTHON"))}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{study.paths.root / 'mlflow.db'}"
    options = {"capture_output": True, "text": True, "check": False}
    finished = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, **options)
    assert finished.returncode == 0, finished.stderr
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert answers["value"] == pytest.approx(predictions["y_pred_ensemble"].tolist(), rel=1e-4)
    served = ServedModel.load(study.paths.results("slme") / "model")
    expected = predict_formulas(served, predictions["formula"])
    for column in ("value", "lower", "upper"):
        assert answers[column] == pytest.approx(expected[column].tolist(), rel=1e-6), column
    assert answers["note"] == expected["note"].tolist()
    errors = np.abs(predictions["y_pred_ensemble"] - predictions["y_true"])
    assert served.holdout_mae == pytest.approx(errors.mean())
    assert set(answers) == {"value", "lower", "upper", "in_domain", "note"}


def test_version_is_the_challenger_of_the_winning_run_and_is_made_once(study, registered, client):
    from crossprop.tracking.registration import register_study

    version = client.get_model_version_by_alias("tiny.slme", "challenger")
    listed = {entry["cell"]: entry["run_id"] for entry in study.read("runs.json")}
    assert version.run_id == listed[study.read("winners.json")["winner"]]
    assert json.loads(study.paths.registry.read_text()) == [
        {"name": "tiny.slme", "version": "1", "run_id": version.run_id, "uri": "models:/tiny.slme@challenger"}
    ]
    (again,) = register_study(study.params, study.paths, lambda line: None)
    assert again.version == registered.version
    assert len(client.search_model_versions("name = 'tiny.slme'")) == 1


def test_other_models_than_the_winners_are_dropped_from_the_store(study):
    winner = study.read("winners.json")["winner"]
    models = study.paths.root.glob(".crossprop/cells/*/*/fold_*/model")
    assert {path.parents[1].name for path in models} == {winner}
    assert Path(study.paths.results("slme") / "model" / "fold_01").is_dir()


@pytest.fixture
def quick_and_restored(monkeypatch, environment_is_restored):
    monkeypatch.setattr(figures, "save_png", lambda figure, path: path.touch())  # only tables are compared


def report_of(params, root):
    """Compute all targets of a study, one worker being this process, and write its report; with the progress."""
    paths, lines = StudyPaths.of(params.study, root), list[str]()
    pool = InlinePool if params.compute.workers == 1 else WorkerPool
    run_targets(params, params.study.targets, paths, lambda digests: lambda cell: "", lines.append, pool=pool)
    summarize(params.study, paths, paths.reports)
    return paths, lines


def assert_same_tables(first, second):
    for name in TABLES:
        assert (first.reports / name).read_bytes() == (second.reports / name).read_bytes()


@pytest.mark.usefixtures("quick_and_restored")
def test_same_tables_come_from_other_workers_and_a_copied_folder(tmp_path, tiny_params, write_target):
    reports = []
    for workers in (1, 2):
        root = tmp_path / f"with_{workers}"
        write_target(root)
        params = tiny_params(
            sources=[], methods=["base", "ml"], budget={"ml_trials": 6, "dl_trials": 1, "seconds": 600},
            compute={"workers": workers, "backend": "jax"},  # only named: nothing here needs it
        )  # fmt: skip
        reports.append(report_of(params, root)[0])
    assert_same_tables(*reports)
    rows = {name: (reports[0].reports / name).read_bytes().count(b"\n") for name in TABLES}
    assert rows == {"cells.csv": 3, "targets.csv": 2}  # a header; two cells, one target
    shutil.copytree(tmp_path / "with_2", tmp_path / "there")
    there, lines = report_of(params, tmp_path / "there")
    assert lines == ["tiny: 7 of 7 tasks are finished already, going on"]
    assert_same_tables(there, reports[0])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("quick_and_restored")
def test_whole_study_gives_the_same_tables_twice(tmp_path, tiny_params, write_study, pretrained_joint):
    """Every method, the paper's and ours, some of them stopped early; one worker and two."""
    study: dict[str, Any] = {"methods": list(Method), "shards": {"only": ["slme"]}}
    study |= {"budget": {"ml_trials": 6, "dl_trials": 8, "seconds": 3600}}
    study |= {"representations": ["elemental_fractions", "physical_attributes"]}
    study |= {"joint": {"all_sources": ["formation_energy"]}}
    study["learning_curve"] = {"targets": ["slme"], "shares": [0.5]}
    study |= {"joint_pretrain": {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}}
    study["fidelity"] = {"rows": 50, "steps": 2, "after_screening": 1, "after_first_fold": 1, "margin": 5.0}
    reports = []
    for workers in (1, 2):
        root = tmp_path / f"with_{workers}"
        write_study(root, repeated=4)
        shutil.copytree(pretrained_joint, StudyPaths("tiny", root).source_model("all_sources"))
        params = tiny_params(**study, compute={"workers": workers})
        reports.append(report_of(params, root)[0])
    assert_same_tables(*reports)
    rows = list(csv.DictReader(io.StringIO((reports[0].reports / "cells.csv").read_text())))
    # base, ml and dl on two representations, the paper's five from one source, the plain models, the extension methods
    assert len(rows) == 1 + 4 + 5 + 2 + 5
    first, second = (json.loads((paths.results("slme") / "cells.json").read_text()) for paths in reports)
    assert first == second
    going = {cell["method"] for cell in first if cell["cv_mae"]}
    scratch = [cell["representation"] for cell in first if cell["cv_mae"] and cell["method"] in ("ml", "dl")]
    assert sorted(scratch) == study["representations"]  # the best of each column of the tables runs to the end
    assert len(going & {"ml_featextr", "dl_featextr", "finetune", "modfinetune", "freezing"}) == 1
    assert {"base", "blend"} < going
    assert any("after screening" in (cell["stopped"] or "") for cell in first)
    assert any("after fold 1 of 2" in (cell["stopped"] or "") for cell in first)
    curves = [pd.read_parquet(paths.results("slme") / "learning_curve.parquet") for paths in reports]
    assert set(zip(curves[0]["side"], curves[0]["share"], strict=True)) == {
        (side, share) for side in ("scratch", "transfer") for share in (0.5, 1.0)
    }
    pd.testing.assert_frame_equal(*curves)
