"""The commands: what they print and how they end."""

import os
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from crossprop import __version__
from crossprop.cli.registry import _standing
from crossprop.errors import ConfigError, run_command

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigError("study.folds: too many"), 1, "ConfigError: study.folds: too many\n"),
        (KeyboardInterrupt(), 130, "what is finished is kept"),
        (OSError(28, "No space left on device", "/somewhere"), 1, "No space left on device"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_that_a_user_can_correct_is_one_line(ended, error, status, said):
    def command():
        raise error

    finished = ended(lambda: run_command(command))
    assert finished.status == status
    assert said in finished.err
    assert finished.err.count("\n") == 1


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: print(1 / 0))


def test_version_is_printed_in_a_process_of_its_own_too(crossprop):
    command = [sys.executable, "-m", "crossprop.cli", "--version"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = (0, f"crossprop {__version__}\n")
    assert (finished.returncode, finished.stdout) == expected == crossprop("--version")[:2]


def test_a_challenger_is_higher_than_a_champion_without_an_error():
    assert _standing(*(SimpleNamespace(holdout_mae=error, unit="eV") for error in (0.0, 5.0))) == "higher"


@pytest.fixture
def check(tmp_path, crossprop):
    """Runs ``crossprop check`` on plain values."""

    def run(values):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return crossprop("check", "--params", path)

    return run


def test_check_says_what_the_configuration_would_compute_and_what_to_run(compose, check):
    first, second, third = check(compose("study=jarvis", "tier=quick")).printed.splitlines()
    # base, ml and dl on two representations, five from each of six sources; two plain models, five extensions
    assert "study jarvis, tier quick, protocol published: 41 targets x 42 cells, 6 sources" in first
    assert "3 to 10 folds, weak cells are pruned early" in first
    assert second.startswith("18 stages: fetch,")
    assert "pretrain@magnetic_moment, pretrain_joint@all_sources, transfer@experiment" in second
    assert third == "Next: dvc repro"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "shards: {all: [slme]}"),
        ({"foldz": 3}, "study.foldz: unknown key. Remove it or correct its spelling.\n"),
        ({"targets": ["slmee"]}, "'slmee' is no property of the catalogue. Did you mean slme"),
    ],
)
def test_check_refuses_what_could_not_be_computed(tiny_values, check, changes, said):
    tiny_values["study"] |= changes
    finished = check(tiny_values)
    assert (finished.out, said in finished.refusal) == ("", True)


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "pipelines").glob("*.py")))
def test_stage_script_refuses_a_wrong_configuration_with_one_line(script, tmp_path, monkeypatch, ended):
    (tmp_path / "params.yaml").write_text("study: 3\n")
    monkeypatch.chdir(tmp_path)
    options = {"pretrain": ["--name", "x"], "transfer": ["--shard", "x"]}
    path = ROOT / "pipelines" / script
    run = partial(runpy.run_path, str(path), run_name="__main__")
    finished = ended(run, path, *options.get(path.stem, []))
    assert finished.refusal.startswith("ConfigError: params.yaml is refused:")
    assert [entry.name for entry in tmp_path.iterdir()] == ["params.yaml"]


def test_output_that_is_not_utf_8_is_plain_ascii(tmp_path):
    path = tmp_path / "table.csv"
    rows = [f"{symbol}{n}O,{n}.5" for symbol in ("Fe", "Ni", "Cu", "Zn", "Mg") for n in range(1, 6)]
    path.write_text("\n".join(["formula,size", *rows]))
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}

    def run(*arguments):
        command = [sys.executable, "-m", "crossprop.cli", *arguments]
        return subprocess.run(command, capture_output=True, env=environment, check=False)

    done = run("data", "add", str(path), "--target", "size", "--unit", "µm", "--check")
    assert done.returncode == 0, done.stderr
    assert " um, median" in done.stdout.decode("ascii")
    refused = run("data", "show", "µ₂")
    assert refused.returncode == 1
    assert b"'u2' is no property" in refused.stderr
