import itertools
import json
import re
import shutil
import sqlite3
import threading
import time
from contextlib import closing, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from registries import NAME, add_version, aliases_of, client_of, evidence_table, logged, make_model, tags_of

from crossprop.cli.registry import history_lines
from crossprop.errors import PromotionError, TrackingError
from crossprop.tracking import promotion
from crossprop.tracking.promotion import PENDING_TAG, promote, read_history, rollback
from crossprop.tracking.registry import find_model

GATES = ["repeats", "base", "spread", "champion", "origin", "signature", "coverage"]
FULL = sqlite3.OperationalError("database or disk is full")


@pytest.fixture(autouse=True)
def models_repeat(monkeypatch):
    monkeypatch.setattr(promotion, "predict_in_subprocess", logged)


def test_first_champion_passes_all_gates_and_carries_who_when_why_and_the_figures(uri, good):
    add_version(uri, good)
    seen = []
    result = promote(uri, NAME, who="ann", reason="measured twice", say=seen.append)
    assert [g.key for g in result.gates] == GATES
    assert seen == [str(g) for g in result.gates]
    assert (result.ok, result.version, result.former) == (True, "1", None)
    assert aliases_of(uri) == {"challenger": "1", "champion": "1"}
    kept = tags_of(uri, "1", "crossprop.promotion.")
    expected = {"by": "ann", "why": "measured twice", "former": "none", "forced": "false"}
    assert (expected | {"at": result.update.at}).items() <= kept.items()
    assert {k for k in kept if k.startswith("gate.")} == {f"gate.{g}" for g in GATES}
    assert kept["gate.champion"] == "pass: no champion yet"
    assert PENDING_TAG not in find_model(uri, NAME).tags


def test_model_that_cannot_be_loaded_fails_with_its_error(uri, good, monkeypatch):
    def broken(model, formulas, timeout):
        raise PromotionError("its process ended with status -11")

    monkeypatch.setattr(promotion, "predict_in_subprocess", broken)
    add_version(uri, good)
    died = "its process ended with status -11"
    assert [g.verdict for g in promote(uri, NAME).failed] == [f"failed: {died}", f"no evidence: {died}"]


def test_missing_files_and_missing_evidence_are_said_gate_by_gate(uri, good, tmp_path):
    add_version(uri, good)
    add_version(uri, make_model(tmp_path / "old"), alias=None)
    shutil.rmtree(good)
    result = promote(uri, NAME)
    assert [g.key for g in result.failed] == ["repeats", "base", "spread", "signature", "coverage"]
    assert "are incomplete" in result.gates[0].figure
    result = promote(uri, NAME, version=2)
    assert {g.key for g in result.gates if not g.measured} == {"repeats", "base", "spread", "coverage"}
    assert "SHA256SUMS has no digest of evidence.parquet" in str(result.gates[1])


def test_rollback_goes_back_and_a_second_one_redoes(uri, good, tmp_path):
    add_version(uri, good, alias="champion")
    with pytest.raises(PromotionError, match=r"no previous version to go back to\. Version 1 is its only one\."):
        rollback(uri, NAME)
    add_version(uri, make_model(tmp_path / "better", evidence_table(error=4.0)))
    with pytest.raises(PromotionError, match=r"no previous version to go back to.*--version N \(there are: 2\)"):
        rollback(uri, NAME)
    result = promote(uri, NAME)
    assert (result.former, result.gates[3].figure[:7]) == ("1", "MAE -1.")
    assert aliases_of(uri) == {"champion": "2", "previous": "1", "challenger": "2"}
    back = rollback(uri, "bulk_modulus", reason="users complain", who="bob")
    assert (back.version, back.former, back.update.why) == ("1", "2", "users complain")
    assert aliases_of(uri) == {"champion": "1", "previous": "2", "challenger": "2"}
    assert tags_of(uri, "1")["crossprop.rollback.by"] == "bob"
    rollback(uri, NAME)
    assert aliases_of(uri)["champion"] == "2"
    history = [(h["action"], h["from"], h["to"]) for h in read_history(find_model(uri, NAME))]
    assert history == [("promotion", "1", "2"), ("rollback", "2", "1"), ("rollback", "1", "2")]


def test_what_was_rolled_back_is_promoted_by_name_only(uri, good, tmp_path):
    add_version(uri, good, alias="champion")
    add_version(uri, make_model(tmp_path / "better", evidence_table(error=4.0)))
    promote(uri, NAME)
    rollback(uri, NAME, reason="odd values for tellurides")
    assert not promotion.promote_all(uri)
    assert aliases_of(uri)["champion"] == "1"
    assert promote(uri, NAME).update
    assert not promotion.promote_all(uri)


def test_interruption_of_promote_all_finishes_what_has_begun_and_begins_no_more(monkeypatch):
    begun = []

    def stopped(uri, name, **options):
        begun.append(name)
        if len(begun) == 1:
            raise KeyboardInterrupt
        time.sleep(0.3)

    model = SimpleNamespace(name="s.t", aliases={"challenger": "1"}, tags={}, holder=str)
    monkeypatch.setattr(promotion, "promote", stopped)
    monkeypatch.setattr(promotion.registry, "all_models", lambda uri, study: [model] * 6)
    with pytest.raises(KeyboardInterrupt):
        promotion.promote_all("sqlite:///unused.db", at_once=1)
    assert len(begun) <= 2


class Killed(BaseException):
    """Nothing can be done after it."""


def failing(write, calls, n, trouble):
    """A write that works until the ``n``-th call of all."""

    def call(*args, **options):
        if next(calls) >= n:
            raise trouble
        return write(*args, **options)

    return call


@pytest.mark.parametrize(
    ("action", "previous", "trouble", "writes"),  # a promotion writes 17 times, a rollback 9 times
    [
        ("promotion", "3", FULL, (1, 4, 17)),
        ("promotion", "3", Killed(), (1, 2, 3, 4, 9, 17)),
        ("rollback", "2", Killed(), (1, 2, 3, 4, 9)),
    ],
)
def test_cut_off_update_is_completed(uri, good, tmp_path, monkeypatch, action, previous, trouble, writes):
    """Where the process is killed or the disk is full, the next command finds what it completes."""
    for alias in ("champion", None, "previous"):
        add_version(uri, good, alias=alias)
    client_of(uri).set_registered_model_alias(NAME, "previous", previous)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    monkeypatch.setattr(promotion, "process_is_gone", lambda tags: True)
    seen = []
    for n in writes:  # aliases, then tags
        shutil.copy(tmp_path / "mlflow.db", tmp_path / f"{n}.db")
        copy = f"sqlite:///{tmp_path / f'{n}.db'}"
        change = partial(rollback, copy, NAME)
        if action == "promotion":
            change = partial(promote, copy, NAME, version=2)
        calls = itertools.count(1)
        with monkeypatch.context() as patch:
            for name in dir(MlflowClient):
                if name.startswith(("set_", "delete_", "update_")):
                    patch.setattr(MlflowClient, name, failing(getattr(MlflowClient, name), calls, n, trouble))
            try:
                change(who="ann")
                break
            except (Killed, TrackingError) as error:
                told = str(error)
        assert trouble is not FULL or "changing the champion of demo.bulk_modulus: the disk is full" in told
        moved = aliases_of(copy)["champion"] == "2"
        change(who="ann")  # what was completed is not done, or undone, a second time
        assert (aliases_of(copy)["champion"], aliases_of(copy)["previous"]) == ("2", "1"), n
        assert PENDING_TAG not in find_model(copy, NAME).tags
        assert tags_of(copy, "2")[f"crossprop.{action}.by"] == "ann"
        seen.append(moved)
    assert len(seen) == len(writes)
    assert set(seen) == {True, False}


def test_rollback_to_a_damaged_version_is_refused(uri, good, tmp_path):
    first = make_model(tmp_path / "first", evidence_table())
    add_version(uri, first, alias="champion")
    add_version(uri, good)
    promote(uri, NAME)
    shutil.rmtree(first)
    with pytest.raises(PromotionError, match="version 1 could not be served"):
        rollback(uri, NAME)
    assert aliases_of(uri) == {"champion": "2", "previous": "1", "challenger": "2"}


def test_champion_changed_by_hand_is_taken_as_it_is_and_rollback_goes_to_the_one_before(uri, good):
    for alias in ("champion", "challenger", "challenger"):
        add_version(uri, good, alias=alias)
    promote(uri, NAME, version=2)  # previous: 1
    client_of(uri).set_registered_model_alias(NAME, "champion", 3)
    assert "moved to version 3 by hand" in history_lines(find_model(uri, NAME))[0]
    assert promote(uri, NAME, version=2, dry_run=True).former == "3"
    lines = []
    back = rollback(uri, NAME, say=lines.append)
    assert "changed by hand; before that, version 2 was champion. Going back to version 2." in lines[0]
    assert (back.version, back.former) == ("2", "3")
    assert aliases_of(uri) == {"champion": "2", "previous": "3", "challenger": "3"}
    client_of(uri).delete_registered_model_alias(NAME, "champion")
    assert rollback(uri, NAME).version == "2"
    for alias in ("champion", "previous"):
        client_of(uri).set_registered_model_alias(NAME, alias, 1)
    with pytest.raises(PromotionError, match="nothing but version 1, the champion itself"):
        rollback(uri, NAME)


@pytest.mark.parametrize("server", [False, True])
def test_of_two_promotions_at_the_same_moment_one_wins(uri, good, monkeypatch, server):
    """A server has no lock: of two records of an update, the last one stays."""
    add_version(uri, good, alias="champion")
    if server:
        monkeypatch.setattr(promotion, "sqlite_path", lambda uri: None)
        monkeypatch.setattr(promotion, "store_lock", lambda uri: nullcontext())
    versions = [add_version(uri, good, alias=None) for _ in range(2)]
    barrier, told = threading.Barrier(2), []
    repeated = lambda *args, **more: (barrier.wait(), logged(*args))[1]  # noqa: E731
    monkeypatch.setattr(promotion, "predict_in_subprocess", repeated)

    def one(version):
        try:
            promote(uri, NAME, version=version, who=f"user{version}")
        except PromotionError as error:
            told.append(str(error))

    threads = [threading.Thread(target=one, args=(v,)) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    winner = aliases_of(uri)["champion"]
    assert winner in versions
    assert aliases_of(uri)["previous"] == "1"
    assert len(told) == 1
    assert "Nothing was changed" in told[0]
    assert server or f"from version 1 to {winner} meanwhile" in told[0]
    assert f"by user{winner}: all gates passed" in history_lines(find_model(uri, NAME))[0]
    assert PENDING_TAG not in find_model(uri, NAME).tags


def test_record_of_an_update_under_way_is_respected_until_it_is_old(uri, good):
    add_version(uri, good)
    record = dict.fromkeys(("former", "at", "why", "token"), "x")
    record |= {"action": "promotion", "name": NAME, "version": "1", "by": "ann", "tags": {}}
    record |= {"process": "elsewhere 1 1", "time": time.time()}
    client = client_of(uri)
    client.set_registered_model_tag(NAME, PENDING_TAG, json.dumps(record))
    with pytest.raises(PromotionError, match="a promotion to version 1 by ann is under way since x"):
        promote(uri, NAME)
    lines = []
    for old in (json.dumps(record | {"time": time.time() - 500}), "not json"):
        client.set_registered_model_tag(NAME, PENDING_TAG, old)
        assert promote(uri, NAME, say=lines.append).ok
    assert "was interrupted; it was taken back" in lines[0]
    assert "unreadable" in lines[-1]


def test_failed_promotion_ends_with_status_1_and_force_goes_through_with_a_reason(crossprop, uri, good, bad):
    assert "The registry holds no models" in crossprop("models")[1]
    add_version(uri, good, alias="champion", test_mae_ensemble=2.0)
    add_version(uri, bad, test_mae_ensemble=1.0)
    (row,) = json.loads(crossprop("models", "--json")[1])
    assert (row["champion"]["version"], row["challenger"]["holdout_mae"]) == ("1", 1.0)
    finished = crossprop("promote", NAME)
    assert finished.out.count("FAIL") == 3
    assert "version 2 fails 3 of 7 gates: base, champion, coverage. Nothing was changed." in finished.refusal
    assert crossprop("promote", NAME, "--force", "")[0] == 1
    assert crossprop("promote", NAME, "--dry-run")[0] == 1
    assert aliases_of(uri) == {"champion": "1", "challenger": "2"}
    told = crossprop("promote", NAME, "--force", "the only  one for hydrides").printed
    assert "version 2 is champion in spite of failed gates; version 1 is previous" in told
    kept = tags_of(uri, "2", "crossprop.promotion.")
    assert (kept["why"], kept["forced"]) == ("the only one for hydrides", "true")
    assert kept["gate.base"].startswith("failed: ")
    told = crossprop("rollback", NAME, "-m", "it was wrong").printed
    assert "version 1 is champion again, version 2 is previous" in told
    assert re.search("rollback: version 2 → 1, by .*it was wrong", crossprop("models", NAME).out)


def test_all_ends_with_status_1_where_some_failed(crossprop, uri, good, bad):
    add_version(uri, good)
    add_version(uri, bad, "other.bulk_modulus")
    add_version(uri, good.with_name("gone"), "demo.gone")
    status, out, _ = crossprop("promote", "--all", "--dry-run")
    assert (status, "3 challengers: 1 would be promoted, 2 not." in out) == (1, True)
    assert "champion" not in aliases_of(uri)
    finished = crossprop("promote", "--all")
    assert "pass   demo.bulk_modulus v1: MAE " in finished.out
    assert "FAIL   other.bulk_modulus v1: base: MAE" in finished.out
    assert "2 of 3 challengers were not promoted: demo.gone, other.bulk_modulus" in finished.refusal
    client_of(uri).delete_registered_model("demo.gone")
    told = crossprop("promote", "--all", "--study", "demo").printed
    assert told == "Every challenger is champion already or was rolled back, or there is none; nothing to do.\n"


def test_what_cannot_be_done_is_said_in_one_line(crossprop):
    for arguments, message in (
        (["promote", "a", "--all"], "Name one target, or --all"),
        (["promote", "--all", "--version", "2"], "no --version and no --force"),
        (["models", "--uri", "sqlite:////nowhere/mlflow.db"], "no registry at /nowhere/mlflow.db"),
    ):
        assert message in crossprop(*arguments).refusal
