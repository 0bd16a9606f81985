"""One target from prepared files to a registered model, with networks, in a real store; and a study that runs twice."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
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
def registered(study):
    from crossprop.tracking.registration import register_study

    (version,) = register_study(study.params, study.paths, lambda line: None)
    return version


def test_winner_is_the_best_by_validation_and_alone_refitted_without_repeated_compositions(study):
    winners, results = study.read("winners.json"), study.results()
    assert [(r.method, r.failure, len(r.cv_mae)) for r in results] == [(method, None, 2) for method in METHODS]
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
    models = study.paths.root.glob(".crossprop/cells/*/*/fold_*/model")  # other models are dropped
    assert {path.parents[1].name for path in models} == {best.cell}


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
    for column in ("in_domain", "note"):
        assert answers[column] == expected[column].tolist()
    errors = np.abs(predictions["y_pred_ensemble"] - predictions["y_true"])
    assert served.holdout_mae == pytest.approx(errors.mean())
    assert set(answers) == {"value", "lower", "upper", "in_domain", "note"}


def test_version_is_the_challenger_of_the_winning_run_and_is_made_once(study, registered):
    from crossprop.tracking.registration import register_study
    from crossprop.tracking.store import open_client

    client = open_client(f"sqlite:///{study.paths.root / 'mlflow.db'}")
    version = client.get_model_version_by_alias("tiny.slme", "challenger")
    listed = {entry["cell"]: entry["run_id"] for entry in study.read("runs.json")}
    assert version.run_id == listed[study.read("winners.json")["winner"]]
    assert json.loads(study.paths.registry.read_text()) == [
        {"name": "tiny.slme", "version": "1", "run_id": version.run_id, "uri": "models:/tiny.slme@challenger"}
    ]
    (again,) = register_study(study.params, study.paths, lambda line: None)
    assert again.version == registered.version
    assert len(client.search_model_versions("name = 'tiny.slme'")) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("environment_is_restored")
def test_whole_study_gives_the_same_tables_twice(tmp_path, tiny_params, write_study, pretrained_joint, monkeypatch):
    """Every method, the paper's and ours, some of them stopped early; one worker and two."""
    study: dict[str, Any] = {"methods": list(Method), "shards": {"only": ["slme"]}}
    study |= {"budget": {"ml_trials": 6, "dl_trials": 8, "seconds": 3600}}
    study |= {"representations": ["elemental_fractions", "physical_attributes"]}
    study |= {"joint": {"all_sources": ["formation_energy"]}}
    study["learning_curve"] = {"targets": ["slme"], "shares": [0.5]}
    study |= {"joint_pretrain": {"epochs": 1, "batch_size": 16, "learning_rate": 0.001}}
    study["fidelity"] = {"rows": 50, "steps": 2, "after_screening": 1, "after_first_fold": 1, "margin": 5.0}
    monkeypatch.setattr(figures, "save_png", lambda figure, path: path.touch())  # only tables are compared
    reports = []
    for workers, pool in ((1, InlinePool), (2, WorkerPool)):
        root = tmp_path / f"with_{workers}"
        write_study(root, repeated=4)
        shutil.copytree(pretrained_joint, StudyPaths("tiny", root).source_model("all_sources"))
        params = tiny_params(**study, compute={"workers": workers})
        paths = StudyPaths.of(params.study, root)
        run_targets(params, ["slme"], paths, lambda digests: lambda cell: "", lambda line: None, pool=pool)
        summarize(params.study, paths, paths.reports)
        reports.append(paths)
    for name in ("cells.csv", "targets.csv"):
        assert len({(paths.reports / name).read_bytes() for paths in reports}) == 1
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
