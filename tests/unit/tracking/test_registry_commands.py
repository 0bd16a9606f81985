"""The commands of the registry as a person types them."""

import json
import sys

import pytest
from registries import NAME, add_version, aliases_of, client_of, logged, tags_of

from crossprop import cli


@pytest.fixture
def crossprop(uri, monkeypatch, capsys):
    """Runs a command in this process with models that repeat; returns its status, output and error output."""
    monkeypatch.setattr("crossprop.tracking.promotion.predict_in_subprocess", logged)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["crossprop", *arguments])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return run


def test_failed_promotion_ends_with_status_1_and_force_goes_through_with_a_reason(crossprop, uri, good, bad):
    assert "The registry holds no models" in crossprop("models")[1]
    add_version(uri, good, alias="champion", test_mae_ensemble=2.0)
    add_version(uri, bad, test_mae_ensemble=1.0)
    (row,) = json.loads(crossprop("models", "--json")[1])
    assert (row["champion"]["version"], row["challenger"]["holdout_mae"]) == ("1", 1.0)
    status, out, err = crossprop("promote", NAME)
    assert status == 1
    assert out.count("FAIL") == 3
    assert "version 2 fails 3 of 7 gates: base, champion, coverage. Nothing was changed." in err
    assert crossprop("promote", NAME, "--force", "")[0] == 1
    assert crossprop("promote", NAME, "--dry-run")[0] == 1
    assert aliases_of(uri) == {"champion": "1", "challenger": "2"}
    status, out, _ = crossprop("promote", NAME, "--force", "the only  one for hydrides")
    assert status == 0
    assert "version 2 is champion in spite of failed gates; version 1 is previous" in out
    kept = tags_of(uri, "2", "crossprop.promotion.")
    assert (kept["why"], kept["forced"]) == ("the only one for hydrides", "true")
    assert kept["gate.base"].startswith("failed: ")
    status, out, _ = crossprop("rollback", NAME, "-m", "it was wrong")
    assert (status, "version 1 is champion again, version 2 is previous" in out) == (0, True)
    out = crossprop("models", NAME)[1]
    assert "rollback: version 2 → 1, by " in out
    assert "it was wrong" in out


def test_all_ends_with_status_1_where_some_failed(crossprop, uri, good, bad):
    add_version(uri, good)
    add_version(uri, bad, "other.bulk_modulus")
    add_version(uri, good.with_name("gone"), "demo.gone")
    status, out, err = crossprop("promote", "--all", "--dry-run")
    assert (status, "3 challengers: 1 would be promoted, 2 not." in out) == (1, True)
    assert "champion" not in aliases_of(uri)
    status, out, err = crossprop("promote", "--all")
    assert status == 1
    assert "pass   demo.bulk_modulus v1: MAE " in out
    assert "FAIL   other.bulk_modulus v1: base: MAE" in out
    assert "2 of 3 challengers were not promoted: demo.gone, other.bulk_modulus" in err
    client_of(uri).delete_registered_model("demo.gone")
    status, out, _ = crossprop("promote", "--all", "--study", "demo")
    assert (status, out) == (0, "Every challenger is champion already, or there is none; nothing to do.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "a", "--all"], "Name one target, or --all"),
        (["promote", "--all", "--version", "2"], "no --version and no --force"),
        (["promote", "bulk_modulus"], "several studies: demo.bulk_modulus, other.bulk_modulus"),
        (["promote", "bulk_modulus", "--study", "demo", "--version", "9"], "no version '9'"),
        (["models", "--uri", "sqlite:////nowhere/mlflow.db"], "no registry at /nowhere/mlflow.db"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(crossprop, uri, good, arguments, message):
    for name in (NAME, "other.bulk_modulus"):
        add_version(uri, good, name)
    status, _, err = crossprop(*arguments)
    assert status == 1
    assert message in err
    assert "Traceback" not in err
