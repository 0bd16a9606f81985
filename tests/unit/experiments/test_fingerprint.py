"""Which code a stored result depends on: all modules that compute, found by their imports, and no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import crossprop
from crossprop.experiments import fingerprint
from crossprop.experiments.fingerprint import code_digest, data_digest, digest, modules_that_compute

COMPUTING = sorted(modules_that_compute())


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's sources that the digest is taken of; yields its root."""
    root = tmp_path / "crossprop"
    shutil.copytree(Path(crossprop.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "files", lambda package: root)
    yield root
    code_digest.cache_clear()


def digest_now():
    code_digest.cache_clear()
    return code_digest()


@pytest.mark.parametrize("name", COMPUTING)
def test_digest_sees_a_change_of_every_module_that_computes(package, name):
    before = digest_now()
    with package.joinpath(*name.split(".")).with_suffix(".py").open("a") as file:
        file.write("\nADDED = 1\n")
    assert digest_now() != before


def test_modules_that_compute_are_known_by_their_imports():
    assert {
        "config", "methods", "data.compositions", "data.splits", "features.matrices", "models.networks",
        "models.regressors", "models.transfer", "models.target_transform", "training.trainer", "training.metrics",
        "training.optimizer", "experiments.tasks", "experiments.inputs", "experiments.tuning", "experiments.blend",
        "experiments.grid",
    } <= set(COMPUTING)  # fmt: skip
    for package in ("report", "tracking", "service", "estimator", "screening", "cli"):
        assert not [name for name in COMPUTING if name.startswith(f"{package}.")]
    others = {"executor", "scheduler", "progress", "results", "targets", "cache", "pretrain"}
    assert not {f"experiments.{name}" for name in others} & set(COMPUTING)


@pytest.mark.parametrize("name", ["experiments/executor.py", "report/page.py", "tracking/runs.py", "io.py"])
def test_digest_ignores_what_schedules_prints_and_records(package, name):
    before = digest_now()
    with (package / name).open("a") as file:
        file.write("\nADDED = 1\n")
    assert digest_now() == before


def test_digest_ignores_comments_docstrings_and_layout(package):
    before = digest_now()
    path = package / "training" / "trainer.py"
    text = path.read_text()
    assert '"""The naive model' in text
    path.write_text("# a comment\n" + text.replace('"""The naive model', '"""The very naive model') + "\n\n")
    assert digest_now() == before


@pytest.mark.parametrize(
    "statement", ["from crossprop.features import more", "import crossprop.features.more"]
)
def test_module_that_a_computing_one_imports_belongs_to_the_digest(package, statement):
    (package / "features" / "more.py").write_text("X = 1\n")
    before = digest_now()
    with (package / "models" / "networks.py").open("a") as file:
        file.write(f"\n\ndef added():\n    {statement}\n")
    imported = digest_now()
    (package / "features" / "more.py").write_text("X = 2\n")
    assert len({before, imported, digest_now()}) == 3


def test_digest_of_values_ignores_the_order_of_keys_and_refuses_nan():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"a": float("nan")})


@pytest.mark.parametrize("column", ["formula", "composition", "split", "value"])
def test_digest_of_a_table_sees_every_column_and_the_order_of_rows(column):
    frame = pd.DataFrame(
        {"formula": ["A", "B"], "composition": ["a", "b"], "split": ["x", "y"], "value": [1.0, 2.0]}
    )
    other = frame.assign(**{column: frame[column].iloc[::-1].to_numpy()})
    assert data_digest(other) != data_digest(frame) == data_digest(frame.copy())
