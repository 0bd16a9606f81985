import json
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from registries import (
    NAME,
    Repeats,
    add_version,
    aliases_of,
    client_of,
    evidence_table,
    make_model,
    remove,
    tags_of,
)

from crossprop.errors import PromotionError, TrackingError
from crossprop.tracking import promotion
from crossprop.tracking.promotion import (
    MOVING_TAG,
    history_lines,
    promote,
    promote_all,
    read_history,
    rollback,
)
from crossprop.tracking.registry import all_models, find_model

GATES = ["repeats", "base", "champion", "origin", "signature", "coverage"]


@pytest.fixture
def good(tmp_path):
    return make_model(tmp_path / "good", evidence_table(error=5.0))


@pytest.fixture
def bad(tmp_path):
    """Worse than the mean of the training values."""
    return make_model(
        tmp_path / "bad", evidence_table(error=60.0), interval={"coverage": 0.9, "half_width": 500.0}
    )


def _promote(uri, **options):
    return promote(uri, NAME, process=Repeats(), **options)


def test_first_champion_passes_all_gates_and_carries_who_when_why_and_the_figures(uri, good):
    add_version(uri, good)
    seen = []
    result = _promote(uri, who="ann", reason="measured twice", report=seen.append)
    assert [g.key for g in result.gates] == GATES
    assert tuple(seen) == result.gates
    assert (result.moved, result.version, result.former) == (True, "1", None)
    assert aliases_of(uri) == {"challenger": "1", "champion": "1"}
    tags = tags_of(uri, "1")
    kept = {
        k.removeprefix("crossprop.promotion."): v
        for k, v in tags.items()
        if k.startswith("crossprop.promotion")
    }
    assert (kept["by"], kept["why"], kept["former"], kept["forced"]) == (
        "ann",
        "measured twice",
        "none",
        "false",
    )
    assert kept["at"] == result.at
    assert {k for k in kept if k.startswith("gate.")} == {f"gate.{key}" for key in GATES}
    assert kept["gate.base"].startswith("pass: MAE ")
    assert kept["gate.champion"] == "pass: no champion yet"
    assert MOVING_TAG not in client_of(uri).get_registered_model(NAME).tags


def test_former_champion_becomes_previous(uri, good, tmp_path):
    add_version(uri, good, alias="champion")
    add_version(uri, make_model(tmp_path / "better", evidence_table(error=4.0)))
    result = _promote(uri)
    assert result.former == "1"
    assert aliases_of(uri) == {"champion": "2", "previous": "1", "challenger": "2"}
    assert result.gates[2].figure.startswith("MAE -1")


def test_failed_gate_changes_nothing(uri, good, bad):
    add_version(uri, good, alias="champion")
    add_version(uri, bad)
    before = find_model(uri, NAME)
    result = promote(uri, NAME, process=Repeats(half_width=0.1))
    assert [g.key for g in result.failed] == ["base", "champion", "coverage"]
    assert (result.moved, result.passed) == (False, False)
    assert find_model(uri, NAME) == before


def test_dry_run_changes_nothing(uri, good):
    add_version(uri, good)
    before = find_model(uri, NAME)
    result = _promote(uri, dry_run=True)
    assert result.passed
    assert not result.moved
    assert find_model(uri, NAME) == before


def test_force_moves_in_spite_of_failed_gates_and_its_reason_is_kept(uri, good, bad):
    add_version(uri, good, alias="champion")
    add_version(uri, bad)
    with pytest.raises(PromotionError, match="--force needs a reason"):
        _promote(uri, force_reason="  ")
    result = _promote(uri, force_reason="only one that knows  lanthanides")
    assert (result.moved, result.forced) == (True, True)
    assert aliases_of(uri)["champion"] == "2"
    tags = tags_of(uri, "2")
    assert tags["crossprop.promotion.why"] == "only one that knows lanthanides"
    assert tags["crossprop.promotion.forced"] == "true"
    assert tags["crossprop.promotion.gate.base"].startswith("failed: ")


def test_version_can_be_named_and_a_champion_is_left_alone(uri, good):
    add_version(uri, good)
    add_version(uri, good)
    assert _promote(uri, version=1).version == "1"
    again = _promote(uri, version=1)
    assert (again.moved, again.gates) == (False, ())


def test_model_that_cannot_be_loaded_fails_with_its_words(uri, good):
    class Broken(Repeats):
        def repeat(self, folder, formulas):
            raise PromotionError("its process ended with status -11")

    add_version(uri, good)
    result = promote(uri, NAME, process=Broken())
    assert [g.key for g in result.failed] == ["repeats", "coverage"]
    assert result.gates[0].figure == "its process ended with status -11"
    assert not result.gates[-1].measured


def test_deleted_files_are_said_gate_by_gate(uri, good):
    add_version(uri, good)
    remove(good)
    result = _promote(uri)
    assert {g.key for g in result.failed} == {"repeats", "base", "signature", "coverage"}
    assert "are not whole" in result.gates[0].figure


def test_version_without_evidence_says_which_gates_lack_it(uri, tmp_path):
    add_version(uri, make_model(tmp_path / "old"), run_id="0" * 32)
    result = promote(uri, NAME, process=Repeats())
    assert {g.key for g in result.gates if not g.measured} == {"repeats", "base", "coverage"}
    assert "its run 00000000000000000000000000000000 or the predictions logged on it are gone" in str(
        result.gates[1]
    )


def test_rollback_goes_back_and_a_second_one_redoes(uri, good):
    add_version(uri, good, alias="champion")
    add_version(uri, good)
    _promote(uri)
    back = rollback(uri, "bulk_modulus", reason="users complain", who="bob")
    assert (back.version, back.former, back.why) == ("1", "2", "users complain")
    assert aliases_of(uri) == {"champion": "1", "previous": "2", "challenger": "2"}
    assert tags_of(uri, "1")["crossprop.rollback.by"] == "bob"
    rollback(uri, NAME)
    assert aliases_of(uri)["champion"] == "2"
    history = read_history(find_model(uri, NAME).tags)
    assert [(h["action"], h["from"], h["to"]) for h in history] == [
        ("promotion", "1", "2"),
        ("rollback", "2", "1"),
        ("rollback", "1", "2"),
    ]


def test_rollback_without_a_previous_version_says_what_to_do(uri, good):
    add_version(uri, good, alias="champion")
    with pytest.raises(
        PromotionError, match=r"no previous version to go back to.*--version N \(there are: 1\)"
    ):
        rollback(uri, NAME)


def test_rollback_to_a_damaged_version_is_refused(uri, good, tmp_path):
    first = make_model(tmp_path / "first", evidence_table())
    add_version(uri, first, alias="champion")
    add_version(uri, good)
    _promote(uri)
    remove(first)
    with pytest.raises(PromotionError, match="version 1 could not be served"):
        rollback(uri, NAME)
    assert aliases_of(uri) == {"champion": "2", "previous": "1", "challenger": "2"}


def test_champion_moved_by_hand_is_taken_as_it_is_and_said(uri, good):
    add_version(uri, good, alias="champion")
    add_version(uri, good)
    _promote(uri)
    client_of(uri).set_registered_model_alias(NAME, "champion", 1)
    assert "moved to version 1 by hand" in history_lines(find_model(uri, NAME))[0]
    assert _promote(uri, version=2).former == "1"


def test_rollback_after_a_move_by_hand_goes_to_the_champion_before_it(uri, good):
    add_version(uri, good, alias="champion")
    for _ in range(2):
        add_version(uri, good)
    _promote(uri, version=2)  # previous: 1
    client_of(uri).set_registered_model_alias(NAME, "champion", 3)
    lines = []
    back = rollback(uri, NAME, say=lines.append)
    assert "moved by hand; before that, version 2 was champion. Going back to version 2." in lines[0]
    assert (back.version, back.former) == ("2", "3")
    assert aliases_of(uri) == {"champion": "2", "previous": "3", "challenger": "3"}
    client_of(uri).set_registered_model_alias(NAME, "champion", 1)
    client_of(uri).set_registered_model_alias(NAME, "previous", 1)
    with pytest.raises(PromotionError, match="nothing but version 1, the champion itself"):
        rollback(uri, NAME)  # whoever moved both knows what is meant


def test_page_of_a_version_tells_who_promoted_it_when_why_and_by_which_figures(uri, good, bad):
    add_version(uri, good, alias="champion")
    second = add_version(uri, bad)
    client_of(uri).update_model_version(NAME, second, "Trained by ann.")
    _promote(uri, who="bob", force_reason="only one with <b>lanthanides</b>")
    page = client_of(uri).get_model_version(NAME, second).description
    assert page.startswith("Trained by ann.\n\n#### As champion\n\nPromoted ")
    assert r"by bob, in spite of failed gates: only one with \<b\>lanthanides" in page
    assert "Version 1 was champion before." in page
    assert page.count("\n- ") == len(GATES)
    rollback(uri, NAME)
    rollback(uri, NAME, reason="once more")
    page = client_of(uri).get_model_version(NAME, second).description
    assert page.count("#### As champion") == 1
    assert "once more" in page
    assert page.count("\n- ") == len(GATES)


def test_two_promotions_at_the_same_moment_one_wins_the_other_is_told(uri, good):
    add_version(uri, good, alias="champion")
    versions = [add_version(uri, good, alias=None) for _ in range(2)]
    told = _race(uri, versions)
    winner = aliases_of(uri)["champion"]
    assert winner in versions
    assert aliases_of(uri)["previous"] == "1"
    assert len(told) == 1
    assert f"from version 1 to {winner} meanwhile, by user{winner} at " in told[0]


def test_two_promotions_through_a_server_one_wins_the_other_is_told(uri, good, monkeypatch):
    """No lock there: what is written first is a claim, and it is read again."""
    monkeypatch.setattr(promotion, "sqlite_path", lambda uri: None)
    monkeypatch.setattr(promotion, "store_lock", lambda uri: nullcontext())
    monkeypatch.setattr(promotion, "SETTLE_SECONDS", 1.0)
    add_version(uri, good, alias="champion")
    versions = [add_version(uri, good, alias=None) for _ in range(2)]
    told = _race(uri, versions)
    assert len(told) == 1
    assert "Nothing was moved" in told[0]
    assert aliases_of(uri)["champion"] in versions
    assert aliases_of(uri)["previous"] == "1"
    assert MOVING_TAG not in client_of(uri).get_registered_model(NAME).tags


def _race(uri, versions):
    barrier, told = threading.Barrier(len(versions)), []

    def one(version):
        try:
            promote(uri, NAME, version=version, who=f"user{version}", process=Repeats(before=barrier.wait))
        except PromotionError as error:
            told.append(str(error))

    threads = [threading.Thread(target=one, args=(v,)) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return told


def test_claim_of_somebody_who_is_at_it_is_respected_until_it_is_old(uri, good):
    add_version(uri, good)
    move = {"action": "promotion", "name": NAME, "champion": "1", "former": None, "previous": None}
    claim = {
        "token": "t",
        "process": "elsewhere 1 1",
        "move": {**move, "by": "ann", "at": "noon", "why": "w"},
    }
    client = client_of(uri)
    client.set_registered_model_tag(NAME, MOVING_TAG, json.dumps({**claim, "time": time.time()}))
    with pytest.raises(PromotionError, match="a promotion to version 1 by ann is under way since noon"):
        _promote(uri)
    client.set_registered_model_tag(NAME, MOVING_TAG, json.dumps({**claim, "time": time.time() - 500}))
    lines = []
    assert _promote(uri, say=lines.append).moved
    assert "was interrupted; it was taken back" in lines[0]
    client.set_registered_model_tag(NAME, MOVING_TAG, "not json")
    assert _promote(uri, say=lines.append).version == "1"
    assert "unreadable" in lines[1]


def test_all_promotes_those_that_pass_and_names_those_that_do_not(uri, good, bad, monkeypatch):
    add_version(uri, good)
    for target, model in (("b", good), ("c", bad), ("d", good)):
        _restate(model, target)
        add_version(uri, model, f"demo.{target}", alias="champion" if target == "d" else "challenger")
    monkeypatch.setattr(
        "crossprop.tracking.clean_process.CleanProcess", lambda patience: nullcontext(Repeats())
    )
    _restate(good, "b")
    seen = []
    attempts = promote_all(uri, report=seen.append)
    assert [(a.name, a.ok) for a in attempts] == [("demo.b", True), (NAME, False), ("demo.c", False)]
    assert len(seen) == 3
    assert [g.key for g in attempts[1].promotion.failed] == ["signature"]
    champions = {m.name: m.aliases.get("champion") for m in all_models(uri)}
    assert champions == {NAME: None, "demo.b": "1", "demo.c": None, "demo.d": "1"}


def _restate(model: Path, target: str) -> None:
    path = model / "artifacts" / "model" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target": target}), encoding="utf-8")


def test_store_that_is_gone_is_named(good, tmp_path):
    with pytest.raises(TrackingError, match=r"no registry at .*nowhere\.db"):
        promote(f"sqlite:///{tmp_path / 'nowhere.db'}", NAME)
