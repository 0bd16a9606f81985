"""The same study twice, in two folders and with another number of workers, gives the same tables."""

import csv
import io
import json
import os
import shutil

import pandas as pd
import pytest

from crossprop.experiments.results import NullRecorder
from crossprop.experiments.targets import run_targets
from crossprop.methods import Method
from crossprop.paths import StudyPaths
from crossprop.report.study import planned_cells
from crossprop.report.summary import summarize
from crossprop.training.device import process_environment

TABLES = ("cells.csv", "targets.csv")


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("tensorflow", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))


def report_of(params, root):
    """Compute all targets of a study and write its report; returns the lines of progress, too."""
    paths, lines = StudyPaths.of(params.study, root), list[str]()
    run_targets(params, params.study.targets, paths, lambda digests: NullRecorder(), lines.append)
    summarize(params.study, planned_cells(params, paths), paths, paths.reports)
    return paths, lines


def assert_same_tables(first, second):
    for name in TABLES:
        assert (first.reports / name).read_bytes() == (second.reports / name).read_bytes()


def test_study_of_regressors_gives_the_same_tables_on_other_workers_and_goes_on_in_a_copied_folder(
    tmp_path, tiny_params, write_target
):
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
def test_whole_study_gives_the_same_tables_twice(tmp_path, tiny_params, write_study, pretrained_joint):
    """Every method, the paper's and ours, some of them stopped early; one worker and two."""
    reports = []
    for workers in (1, 2):
        root = tmp_path / f"with_{workers}"
        write_study(root, repeated=4)
        shutil.copytree(pretrained_joint, StudyPaths("tiny", root).source_model("all_sources"))
        params = tiny_params(
            targets=["slme"],
            shards={"only": ["slme"]},
            methods=list(Method),
            representations=["elemental_fractions", "physical_attributes"],
            joint={"all_sources": ["formation_energy"]},
            joint_pretrain={"epochs": 1, "batch_size": 16, "learning_rate": 0.001},
            budget={"ml_trials": 6, "dl_trials": 8, "seconds": 3600},
            fidelity={"rows": 50, "steps": 2, "after_screening": 1, "after_first_fold": 1, "margin": 5.0},
            learning_curve={"targets": ["slme"], "shares": [0.5]},
            compute={"workers": workers},
        )
        reports.append(report_of(params, root)[0])
    assert_same_tables(*reports)
    rows = list(csv.DictReader(io.StringIO((reports[0].reports / "cells.csv").read_text())))
    # base, ml and dl on two representations, the paper's five from one source, ours
    assert len(rows) == 1 + 4 + 5 + 5
    first, second = (json.loads((paths.results("slme") / "cells.json").read_text()) for paths in reports)
    assert first == second
    going = {cell["method"] for cell in first if cell["cv_mae"]}
    assert len(going & {"ml", "dl"}) == 1  # one of each side and kind runs to the end
    assert len(going & {"ml_featextr", "dl_featextr", "finetune", "modfinetune", "freezing"}) == 1
    assert {"base", "blend"} < going
    assert any("after screening" in (cell["stopped"] or "") for cell in first)
    assert any("after fold 1 of 2" in (cell["stopped"] or "") for cell in first)
    curves = [pd.read_parquet(paths.results("slme") / "learning_curve.parquet") for paths in reports]
    assert set(zip(curves[0]["side"], curves[0]["share"], strict=True)) == {
        (side, share) for side in ("scratch", "transfer") for share in (0.5, 1.0)
    }
    pd.testing.assert_frame_equal(*curves)
