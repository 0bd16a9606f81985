"""The commands as a person types them: what they print and how they end."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from crossprop import __version__, cli
from crossprop.errors import ConfigError, StoreError, run_command

ROOT = Path(__file__).resolve().parents[3]


class Finished(NamedTuple):
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def crossprop(monkeypatch, capsys):
    """Runs the command ``crossprop`` in this process."""

    def run(*arguments: object, cwd: Path = ROOT) -> Finished:
        return in_process(cli.main, "crossprop", arguments, cwd, monkeypatch, capsys)

    return run


def in_process(main, name, arguments, cwd, monkeypatch, capsys) -> Finished:
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", [str(name), *map(str, arguments)])
    monkeypatch.setenv("TERM", "dumb")
    status = 0
    try:
        main()
    except SystemExit as end:
        status = int(end.code or 0)
    return Finished(status, *capsys.readouterr())


@pytest.fixture
def ended(capsys):
    """Runs a function as a command; returns its exit status and what it printed to stderr."""

    def run(command):
        status = 0
        try:
            run_command(command)
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().err

    return run


def test_command_that_works_ends_with_nothing_said(ended):
    assert ended(lambda: None) == (0, "")


def test_error_that_a_user_can_mend_is_one_line_without_a_traceback(ended):
    def refuse():
        raise ConfigError("study.folds: too many")

    assert ended(refuse) == (1, "ConfigError: study.folds: too many\n")


def test_interruption_says_that_nothing_is_lost(ended):
    def interrupt():
        raise KeyboardInterrupt

    status, printed = ended(interrupt)
    assert status == 130
    assert "what is finished is kept" in printed


def test_full_disk_is_named_with_what_to_do(ended):
    def fill():
        raise OSError(28, "No space left on device", "/somewhere")

    status, printed = ended(fill)
    assert status == 1
    assert "No space left on device" in printed
    assert "Check the disk and the permissions, then run again" in printed


def test_error_of_the_programme_keeps_its_traceback():
    def crash():
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_command(crash)


def test_store_error_ends_with_status_one(ended):
    def refuse():
        raise StoreError("held")

    assert ended(refuse)[0] == 1


def test_version_is_printed(crossprop):
    finished = crossprop("--version")
    assert (finished.returncode, finished.stdout) == (0, f"crossprop {__version__}\n")


def test_help_lists_the_commands(crossprop):
    printed = crossprop("--help").stdout
    for command in ("check", "ui", "data"):
        assert command in printed
    printed = crossprop("data", "--help").stdout
    for command in ("list", "show", "fetch", "verify"):
        assert command in printed


def test_check_says_what_the_configuration_would_compute(crossprop):
    finished = crossprop("check")
    assert finished.returncode == 0, finished.stderr
    # base, ml and dl on two representations, and five transfer methods from one source
    first, second = finished.stdout.splitlines()
    assert first.endswith(
        "study transport, protocol published: 4 targets x 10 cells, 1 sources, 5 folds, every method in full"
    )
    assert second == (
        "7 stages: fetch, prepare, featurize, pretrain@seebeck_p, transfer@all, summarize, register"
    )


def test_check_counts_the_cells_and_stages_of_a_tier(tmp_path, compose, crossprop):
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(compose("study=jarvis", "tier=quick"), sort_keys=False))
    finished = crossprop("check", "--params", path)
    assert finished.returncode == 0, finished.stderr
    first, second = finished.stdout.splitlines()
    # the paper's: base, ml and dl on two representations, five from each of two sources; ours: five
    assert (
        "study jarvis, tier quick, protocol published: 41 targets x 20 cells, 6 sources, 3 to 10 folds"
        in first
    )
    assert first.endswith("hopeless cells end early")
    assert second.startswith("14 stages: fetch,")
    assert "pretrain@band_gap, pretrain_joint@all_sources, transfer@experiment" in second


def test_check_refuses_a_study_whose_targets_no_stage_would_compute(tmp_path, tiny_values, crossprop):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny_values))
    finished = crossprop("check", "--params", path)
    assert finished.returncode == 1
    assert "study.shards is empty" in finished.stderr
    assert "shards: {all: [slme]}" in finished.stderr


def test_check_refuses_a_configuration_by_the_keys_path(tmp_path, tiny_values, crossprop):
    tiny_values["study"]["foldz"] = 3
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny_values))
    finished = crossprop("check", "--params", path)
    assert finished.returncode == 1
    assert finished.stderr == f"ConfigError: {path} is refused:\n  study.foldz: unknown key. " \
                              "Remove it or correct its spelling.\n"  # fmt: skip
    assert finished.stdout == ""


def test_check_refuses_a_property_that_nobody_knows(tmp_path, tiny_values, crossprop):
    tiny_values["study"]["targets"] = ["slmee"]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny_values))
    finished = crossprop("check", "--params", path)
    assert finished.returncode == 1
    assert "'slmee' is no property of the catalogue. Did you mean slme" in finished.stderr


def test_check_counts_no_base_that_is_not_there(tmp_path, tiny_values, crossprop):
    tiny_values["study"] |= {"methods": ["ml", "finetune"], "shards": {"all": ["slme"]}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny_values))
    assert "1 targets x 2 cells" in crossprop("check", "--params", path).stdout


def test_command_outside_the_project_says_where_to_run_it(tmp_path, crossprop):
    finished = crossprop("check", cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("ConfigError: params.yaml is missing. Run from the project's root")


def test_unknown_command_ends_with_a_usage_error(crossprop):
    finished = crossprop("chekc")
    assert finished.returncode == 2
    assert "No such command" in finished.stderr


def test_property_can_be_shown_by_its_short_name(crossprop):
    finished = crossprop("data", "show", "SLME")
    assert finished.returncode == 0, finished.stderr
    assert "slme" in finished.stdout


def test_showing_an_unknown_property_ends_with_status_one(crossprop):
    finished = crossprop("data", "show", "colour")
    assert finished.returncode == 1
    assert finished.stderr.startswith("UnknownPropertyError: 'colour' is no property")


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "pipelines").glob("*.py")))
def test_stage_script_refuses_a_wrong_configuration_with_one_line(script, tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text("study: 3\n")
    options = {
        "pretrain.py": ["--source", "x"],
        "pretrain_joint.py": ["--name", "x"],
        "transfer.py": ["--shard", "x"],
    }
    path = str(ROOT / "pipelines" / script)
    finished = in_process(
        lambda: runpy.run_path(path, run_name="__main__"),
        path,
        options.get(script, []),
        tmp_path,
        monkeypatch,
        capsys,
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith("ConfigError: params.yaml is refused:")
    assert [entry.name for entry in tmp_path.iterdir()] == ["params.yaml"]


def test_version_is_printed_in_a_process_of_its_own_too():
    command = [sys.executable, "-m", "crossprop.cli", "--version"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (0, f"crossprop {__version__}\n")
