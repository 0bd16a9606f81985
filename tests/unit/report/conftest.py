"""Studies that never ran, and their reports; tests only read those of the session."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_study import MadeStudy, write_study


@pytest.fixture
def study(tmp_path, tiny_params) -> MadeStudy:
    """Two targets, the paper's eight methods, two sources; to be changed by the test."""
    return write_study(tmp_path / "project", tiny_params)


@pytest.fixture
def extended_study(tmp_path, tiny_params) -> MadeStudy:
    """The same with extension methods, stopped cells, and a shard."""
    return write_study(tmp_path / "project", tiny_params, extended=True)


@pytest.fixture
def study_with_failure(tmp_path, tiny_params) -> MadeStudy:
    """The plain study with one cell that diverged."""
    return write_study(tmp_path / "failed", tiny_params, failed="slme/finetune/band_gap")


@pytest.fixture(scope="session")
def plain_study(tmp_path_factory, tiny_params) -> MadeStudy:
    return write_study(tmp_path_factory.mktemp("study"), tiny_params)


@pytest.fixture(scope="session")
def whole_study(tmp_path_factory, tiny_params) -> MadeStudy:
    return write_study(tmp_path_factory.mktemp("study"), tiny_params, extended=True)


@pytest.fixture(scope="session")
def plain(plain_study):
    return plain_study.results()


@pytest.fixture(scope="session")
def extended(whole_study):
    return whole_study.results()


@pytest.fixture(scope="session")
def report(tmp_path_factory, plain_study) -> Path:
    return plain_study.report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def extended_report(tmp_path_factory, whole_study) -> Path:
    return whole_study.report(tmp_path_factory.mktemp("report"))
