"""The same study twice, in two folders and with another number of workers, gives the same tables."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossprop.config import Params
from crossprop.data.catalog import load_catalog
from crossprop.experiments.results import NullRecorder
from crossprop.experiments.target import run_target
from crossprop.features.matrices import write_features
from crossprop.paths import StudyPaths
from crossprop.reporting.plan import study_info
from crossprop.reporting.summary import summarize
from crossprop.training.device import process_environment
from crossprop.vocabulary import Method, Representation

TABLES = ("cells.csv", "targets.csv")


@pytest.fixture(autouse=True)
def environment_is_restored(monkeypatch):
    for name in process_environment("tensorflow", 1):
        monkeypatch.setenv(name, os.environ.get(name, ""))


def report_of(params: Params, root: Path) -> StudyPaths:
    """Compute all targets of a study and write its report."""
    paths = StudyPaths("tiny", root)
    for target in params.study.targets:
        run_target(params, target, paths, lambda frame, digest: NullRecorder(), lambda line: None)
    catalog = load_catalog()
    paper: Any = {target: catalog.property(target).paper for target in params.study.targets}
    summarize(study_info(params, paths), root / "results", paths.reports, paper)
    return paths


def test_study_of_regressors_gives_the_same_tables_on_one_worker_and_on_two(
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
        reports.append(report_of(params, root).reports)
    for name in TABLES:
        first, second = ((folder / name).read_bytes() for folder in reports)
        assert first == second
        assert (
            first.count(b"\n") == {"cells.csv": 3, "targets.csv": 2}[name]
        )  # a header; two cells, one target


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whole_study_gives_the_same_tables_twice(tmp_path, tiny_params, write_study):
    reports = []
    for workers in (1, 2):
        root = tmp_path / f"with_{workers}"
        frame = write_study(root)
        write_features(frame, StudyPaths("tiny", root).features("slme"), [Representation.PHYSICAL_ATTRIBUTES])
        params = tiny_params(
            methods=list(Method),
            representations=["elemental_fractions", "physical_attributes"],
            budget={"ml_trials": 4, "dl_trials": 8, "seconds": 3600},
            compute={"workers": workers},
        )
        reports.append(report_of(params, root).reports)
    for name in TABLES:
        first, second = ((folder / name).read_bytes() for folder in reports)
        assert first == second
    assert (reports[0] / "cells.csv").read_bytes().count(b"\n") == 11  # 10 cells and a header


def test_a_copied_folder_goes_on_where_the_other_is(tmp_path, tiny_params, write_target):
    write_target(tmp_path / "here")
    params = tiny_params(sources=[], methods=["base", "ml"], compute={"workers": 1, "backend": "jax"})
    report_of(params, tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    lines: list[str] = []
    outcome = run_target(
        params, "slme", StudyPaths("tiny", tmp_path / "there"), lambda f, d: NullRecorder(), lines.append
    )
    assert lines == ["tiny/slme: 6 of 6 pieces are finished already, going on"]
    assert np.isfinite(outcome.winners.winner.test_mae)
