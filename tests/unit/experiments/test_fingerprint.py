"""Which code a stored result depends on: all modules that compute, found by their imports, and no others."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import crossprop
from crossprop.experiments import fingerprint
from crossprop.experiments.fingerprint import code_digest, data_digest, digest, modules_that_compute

COMPUTING = modules_that_compute()
BASELINE = code_digest()


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package's sources."""
    root = tmp_path_factory.mktemp("copy") / "crossprop"
    left_out = shutil.ignore_patterns("__pycache__", "static")
    return shutil.copytree(Path(crossprop.__file__).parent, root, ignore=left_out)


@pytest.fixture
def digest_with(copied, monkeypatch):
    """The digest with text added to modules; they are as before afterwards."""
    monkeypatch.setattr(fingerprint, "files", lambda package: copied)

    def of(added, change=str.__add__):
        paths = {copied / f"{name.replace('.', '/')}.py": text for name, text in added.items()}
        before = {path: path.read_text() if path.is_file() else None for path in paths}
        for path, text in paths.items():
            path.write_text(change(before[path] or "", text))
        code_digest.cache_clear()
        found = code_digest()
        for path, text in before.items():
            path.unlink() if text is None else path.write_text(text)
        return found

    yield of
    code_digest.cache_clear()


def test_digest_sees_a_change_of_every_module_that_computes(digest_with):
    assert [name for name in COMPUTING if digest_with({name: "\nADDED = 1\n"}) == BASELINE] == []


def test_modules_that_compute_are_known_by_their_imports():
    assert {
        "methods", "data.compositions", "data.splits", "features.matrices", "models.networks",
        "models.regressors", "models.transfer", "models.target_transform", "training.trainer", "training.metrics",
        "training.optimizer", "experiments.tasks", "experiments.inputs", "experiments.tuning", "experiments.blend",
        "experiments.grid",
    } <= set(COMPUTING)  # fmt: skip
    for package in ("report", "tracking", "service", "estimator", "screening", "cli"):
        assert not [name for name in COMPUTING if name.startswith(f"{package}.")]
    assert "config" not in COMPUTING  # its values are part of a cell's id
    others = {"executor", "scheduler", "progress", "results", "targets", "cache", "pretrain"}
    assert not {f"experiments.{name}" for name in others} & set(COMPUTING)


def test_digest_ignores_what_schedules_comments_docstrings_and_layout(digest_with):
    assert digest_with({"experiments.executor": "\nADDED = 1\n", "io": "\nADDED = 1\n"}) == BASELINE

    def reworded(text, other):
        assert '"""The naive model' in text
        return "# a comment\n" + text.replace('"""The naive model', other) + "\n\n"

    assert digest_with({"training.trainer": '"""The very naive model'}, reworded) == BASELINE


def test_module_that_a_computing_one_imports_belongs_to_the_digest(digest_with):
    for statement in ("from crossprop.features import more", "import crossprop.features.more"):
        using = {"models.networks": f"\n\ndef added():\n    {statement}\n"}
        digests = [digest_with({"features.more": f"X = {x}\n"} | using) for x in (1, 2)]
        assert len({*digests, digest_with({"features.more": "X = 1\n"})}) == 3


def test_digest_of_values_ignores_the_order_of_keys_and_that_of_a_table_sees_all():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"a": float("nan")})
    columns = ("formula", "composition", "split", "value")
    frame = pd.DataFrame({name: ["A", "B"] for name in columns}).assign(value=[1.0, 2.0])
    for column in columns:
        other = frame.assign(**{column: frame[column].iloc[::-1].to_numpy()})
        assert data_digest(other) != data_digest(frame) == data_digest(frame.copy())
