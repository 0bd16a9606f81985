"""Studies that never ran, and their reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_study import Making, SyntheticStudy, rewrite_cells, write_study

from crossprop.report.summary import summarize

TWO_TARGETS = (
    ("exfoliation_energy", "Exfoli", "meV/atom", 60.0, 1200),
    ("slme", "SLME", "%", 9.4, 1500),
)


@pytest.fixture
def study(tmp_path: Path) -> SyntheticStudy:
    """Two targets, the paper's eight methods, two sources."""
    return write_study(tmp_path, TWO_TARGETS)


@pytest.fixture
def own_study(tmp_path: Path) -> SyntheticStudy:
    """The same with the methods of ours, multi-fidelity, and a shard."""
    shards = {"all": ("exfoliation_energy", "slme")}
    return write_study(tmp_path, TWO_TARGETS, Making(own=True, halved=True), shards)


@pytest.fixture
def study_with_failure(tmp_path: Path) -> SyntheticStudy:
    """The plain study with one cell that diverged."""
    return write_study(tmp_path, TWO_TARGETS, Making(failed="slme/finetune/band_gap"))


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The written report of the plain study; tests only read it."""
    made = write_study(tmp_path_factory.mktemp("study"), TWO_TARGETS)
    folder = tmp_path_factory.mktemp("report")
    summarize(made.info, made.paths, folder, made.paper)
    return folder


@pytest.fixture(scope="module")
def own_report(tmp_path_factory) -> Path:
    """The written report of the study with methods of ours; tests only read it."""
    made = write_study(tmp_path_factory.mktemp("study"), TWO_TARGETS, Making(own=True, halved=True))
    folder = tmp_path_factory.mktemp("report")
    summarize(made.info, made.paths, folder, made.paper)
    return folder


@pytest.fixture
def edit_cells():
    """Function (study, target, change of the list of cells)."""
    return rewrite_cells


@pytest.fixture
def with_targets():
    """Function (study, target infos) that gives the study other targets."""
    return lambda study, targets: replace(study, info=replace(study.info, targets=tuple(targets)))
