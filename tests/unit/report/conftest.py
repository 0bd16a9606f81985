"""Studies that never ran, and their reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_study import Making, SyntheticStudy, rewrite_cells, write_study

from crossprop.report.study import load_study_results
from crossprop.report.summary import summarize

TWO_TARGETS = (("exfoliation_energy", "Exfoli", "meV/atom", 60.0, 1200), ("slme", "SLME", "%", 9.4, 1500))
EXTENDED = Making(extended=True, halved=True)


@pytest.fixture
def study(tmp_path: Path) -> SyntheticStudy:
    """Two targets, the paper's eight methods, two sources."""
    return write_study(tmp_path, TWO_TARGETS)


@pytest.fixture
def extended_study(tmp_path: Path) -> SyntheticStudy:
    """The same with extension methods, multi-fidelity, and a shard."""
    return write_study(tmp_path, TWO_TARGETS, EXTENDED, {"all": ("exfoliation_energy", "slme")})


@pytest.fixture
def study_with_failure(tmp_path: Path) -> SyntheticStudy:
    """The plain study with one cell that diverged."""
    return write_study(tmp_path, TWO_TARGETS, Making(failed="slme/finetune/band_gap"))


def _made(tmp_path_factory, making: Making | None = None):
    study = write_study(tmp_path_factory.mktemp("study"), TWO_TARGETS, making)
    return study, load_study_results(study.info, study.paths)


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """The plain study and its results; tests only read them."""
    return _made(tmp_path_factory)


@pytest.fixture(scope="session")
def extended(tmp_path_factory):
    """The study with extension methods and its results; tests only read them."""
    return _made(tmp_path_factory, EXTENDED)


def _report(tmp_path_factory, made) -> Path:
    study, _ = made
    folder = tmp_path_factory.mktemp("report")
    summarize(study.info, study.paths, folder, study.paper)
    return folder


@pytest.fixture(scope="session")
def report(tmp_path_factory, plain) -> Path:
    """The written report of the plain study; tests only read it."""
    return _report(tmp_path_factory, plain)


@pytest.fixture(scope="session")
def extended_report(tmp_path_factory, extended) -> Path:
    """The written report of the study with extension methods; tests only read it."""
    return _report(tmp_path_factory, extended)


@pytest.fixture
def edited():
    """Function (study, change of the list of cells, targets) that returns the results after the change."""

    def edit(study, change, targets=("exfoliation_energy", "slme")):
        for target in targets:
            rewrite_cells(study, target, change)
        return load_study_results(study.info, study.paths)

    return edit
