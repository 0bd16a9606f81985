import json
import shutil
import sqlite3
import threading
import time
from contextlib import nullcontext

import pytest
from mlflow import MlflowClient
from registries import NAME, add_version, aliases_of, client_of, evidence_table, logged, make_model, tags_of

from crossprop.errors import PromotionError, TrackingError
from crossprop.tracking import promotion
from crossprop.tracking.overview import history_lines
from crossprop.tracking.promotion import PENDING_TAG, promote, promote_all, read_history, rollback
from crossprop.tracking.registry import all_models, find_model

GATES = ["repeats", "base", "spread", "champion", "origin", "signature", "coverage"]


@pytest.fixture(autouse=True)
def models_repeat(monkeypatch):
    monkeypatch.setattr(promotion, "predict_in_subprocess", logged)


@pytest.fixture
def champion(uri, good):
    """Version 1, that is champion."""
    return add_version(uri, good, alias="champion")


def test_first_champion_passes_all_gates_and_carries_who_when_why_and_the_figures(uri, good):
    add_version(uri, good)
    seen = []
    result = promote(uri, NAME, who="ann", reason="measured twice", say=seen.append)
    assert [g.key for g in result.gates] == GATES
    assert seen == [str(g) for g in result.gates]
    assert (result.ok, result.version, result.former) == (True, "1", None)
    assert aliases_of(uri) == {"challenger": "1", "champion": "1"}
    kept = tags_of(uri, "1", "crossprop.promotion.")
    expected = {
        "by": "ann",
        "why": "measured twice",
        "former": "none",
        "forced": "false",
        "at": result.update.at,
    }
    assert expected.items() <= kept.items()
    assert {k for k in kept if k.startswith("gate.")} == {f"gate.{g}" for g in GATES}
    assert kept["gate.champion"] == "pass: no champion yet"
    assert PENDING_TAG not in find_model(uri, NAME).tags


def test_former_champion_becomes_previous(uri, champion, tmp_path):
    add_version(uri, make_model(tmp_path / "better", evidence_table(error=4.0)))
    result = promote(uri, NAME)
    assert result.former == "1"
    assert aliases_of(uri) == {"champion": "2", "previous": "1", "challenger": "2"}
    assert result.gates[3].figure.startswith("MAE -1")


def test_failed_gate_and_dry_run_change_nothing_and_force_needs_a_reason_which_is_kept(uri, champion, bad):
    add_version(uri, bad)
    before = find_model(uri, NAME)
    result = promote(uri, NAME)
    assert [g.key for g in result.failed] == ["base", "champion", "coverage"]
    assert (result.update, result.ok) == (None, False)
    result = promote(uri, NAME, version=1, dry_run=True)
    assert (result.update, result.ok, len(result.gates)) == (None, True, len(GATES))
    with pytest.raises(PromotionError, match="--force needs a reason"):
        promote(uri, NAME, force_reason="  ")
    assert find_model(uri, NAME) == before
    assert promote(uri, NAME, force_reason="only one that knows  lanthanides").ok
    assert aliases_of(uri)["champion"] == "2"
    kept = tags_of(uri, "2", "crossprop.promotion.")
    assert (kept["why"], kept["forced"]) == ("only one that knows lanthanides", "true")
    assert kept["gate.base"].startswith("failed: ")


def test_model_that_cannot_be_loaded_fails_with_its_error(uri, good, monkeypatch):
    def broken(model, formulas, timeout):
        raise PromotionError("its process ended with status -11")

    monkeypatch.setattr(promotion, "predict_in_subprocess", broken)
    add_version(uri, good)
    assert [g.verdict for g in promote(uri, NAME).failed] == [
        "failed: its process ended with status -11",
        "no evidence: its process ended with status -11",
    ]


def test_missing_files_and_missing_evidence_are_said_gate_by_gate(uri, good, tmp_path):
    add_version(uri, good)
    add_version(uri, make_model(tmp_path / "old"), alias=None)
    shutil.rmtree(good)
    result = promote(uri, NAME)
    assert [g.key for g in result.failed] == ["repeats", "base", "spread", "signature", "coverage"]
    assert "are incomplete" in result.gates[0].figure
    result = promote(uri, NAME, version=2)
    assert {g.key for g in result.gates if not g.measured} == {"repeats", "base", "spread", "coverage"}
    assert "version 2 carries no evidence.parquet" in str(result.gates[1])


def test_rollback_goes_back_and_a_second_one_redoes(uri, champion, good):
    with pytest.raises(
        PromotionError, match=r"no previous version to go back to.*--version N \(there are: 1\)"
    ):
        rollback(uri, NAME)
    add_version(uri, good)
    promote(uri, NAME)
    back = rollback(uri, "bulk_modulus", reason="users complain", who="bob")
    assert (back.version, back.former, back.update.why) == ("1", "2", "users complain")
    assert aliases_of(uri) == {"champion": "1", "previous": "2", "challenger": "2"}
    assert tags_of(uri, "1")["crossprop.rollback.by"] == "bob"
    rollback(uri, NAME)
    assert aliases_of(uri)["champion"] == "2"
    history = [(h["action"], h["from"], h["to"]) for h in read_history(find_model(uri, NAME))]
    assert history == [("promotion", "1", "2"), ("rollback", "2", "1"), ("rollback", "1", "2")]


@pytest.mark.parametrize(
    "step", ["set_registered_model_tag", "set_registered_model_alias", "set_model_version_tag"]
)
def test_disk_that_is_full_leaves_the_registry_as_it_was_or_complete(uri, champion, good, monkeypatch, step):
    add_version(uri, good)
    before = find_model(uri, NAME)

    def full(*args, **options):
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, full)
        with pytest.raises(
            TrackingError, match=r"changing the champion of demo\.bulk_modulus: the disk is full"
        ):
            promote(uri, NAME)
    if step != "set_model_version_tag":  # the alias was not moved yet
        assert find_model(uri, NAME) == before
    monkeypatch.setattr(promotion, "process_is_gone", lambda tags: True)
    assert promote(uri, NAME).version == "2"
    assert aliases_of(uri) == {"champion": "2", "previous": "1", "challenger": "2"}
    assert tags_of(uri, "2")["crossprop.promotion.former"] == "1"
    assert PENDING_TAG not in find_model(uri, NAME).tags


def test_rollback_to_a_damaged_version_is_refused(uri, good, tmp_path):
    first = make_model(tmp_path / "first", evidence_table())
    add_version(uri, first, alias="champion")
    add_version(uri, good)
    promote(uri, NAME)
    shutil.rmtree(first)
    with pytest.raises(PromotionError, match="version 1 could not be served"):
        rollback(uri, NAME)
    assert aliases_of(uri) == {"champion": "2", "previous": "1", "challenger": "2"}


def test_champion_changed_by_hand_is_taken_as_it_is_and_rollback_goes_to_the_one_before(uri, champion, good):
    for _ in range(2):
        add_version(uri, good)
    promote(uri, NAME, version=2)  # previous: 1
    client_of(uri).set_registered_model_alias(NAME, "champion", 3)
    assert "moved to version 3 by hand" in history_lines(find_model(uri, NAME))[0]
    assert promote(uri, NAME, version=2, dry_run=True).former == "3"
    lines = []
    back = rollback(uri, NAME, say=lines.append)
    assert "changed by hand; before that, version 2 was champion. Going back to version 2." in lines[0]
    assert (back.version, back.former) == ("2", "3")
    assert aliases_of(uri) == {"champion": "2", "previous": "3", "challenger": "3"}
    for alias in ("champion", "previous"):
        client_of(uri).set_registered_model_alias(NAME, alias, 1)
    with pytest.raises(PromotionError, match="nothing but version 1, the champion itself"):
        rollback(uri, NAME)


@pytest.mark.parametrize("server", [False, True])
def test_two_promotions_at_the_same_moment_one_wins_the_other_is_told(
    uri, champion, good, monkeypatch, server
):
    """A server has no lock: of two records of an update, the last one stays."""
    if server:
        monkeypatch.setattr(promotion, "sqlite_path", lambda uri: None)
        monkeypatch.setattr(promotion, "store_lock", lambda uri: nullcontext())
    versions = [add_version(uri, good, alias=None) for _ in range(2)]
    barrier, told = threading.Barrier(2), []
    monkeypatch.setattr(
        promotion, "predict_in_subprocess", lambda *args, **more: (barrier.wait(), logged(*args))[1]
    )

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
    record = {
        "action": "promotion", "name": NAME, "version": "1", "former": None, "by": "ann", "at": "noon",
        "why": "w", "tags": {}, "token": "t", "process": "elsewhere 1 1", "time": time.time(),
    }  # fmt: skip
    client = client_of(uri)
    client.set_registered_model_tag(NAME, PENDING_TAG, json.dumps(record))
    with pytest.raises(PromotionError, match="a promotion to version 1 by ann is under way since noon"):
        promote(uri, NAME)
    lines = []
    for old in (json.dumps(record | {"time": time.time() - 500}), "not json"):
        client.set_registered_model_tag(NAME, PENDING_TAG, old)
        assert promote(uri, NAME, say=lines.append).ok
    assert "was interrupted; it was taken back" in lines[0]
    assert "unreadable" in lines[-1]


def test_all_promotes_those_that_pass_and_names_those_that_do_not(uri, bad, tmp_path):
    for target in ("b", "d", "e"):
        add_version(uri, make_model(tmp_path / target, evidence_table(), target=target), f"demo.{target}")
    client_of(uri).set_registered_model_alias("demo.d", "champion", 1)
    add_version(uri, bad, "demo.c")  # states another target, too
    shutil.rmtree(tmp_path / "e")
    seen = []
    done = promote_all(uri, report=seen.append)
    assert [(p.name, p.ok) for p in done] == [("demo.b", True), ("demo.c", False), ("demo.e", False)]
    assert len(seen) == 3
    assert [g.key for g in done[1].failed] == ["base", "signature", "coverage"]
    champions = {m.name: m.aliases.get("champion") for m in all_models(uri)}
    assert champions == {"demo.b": "1", "demo.c": None, "demo.d": "1", "demo.e": None}
