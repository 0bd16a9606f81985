from __future__ import annotations

import time

import pytest
from fake_service import FakeSource, load_fake
from waiting import until

from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Follower, Shelf
from crossprop.service.settings import ServiceSettings


@pytest.fixture
def parts(tmp_path):
    source, metrics = FakeSource(tmp_path), Metrics()
    source.add("deltae")
    shelf = Shelf(source, load_fake, ServiceSettings(), metrics)
    follower = Follower(shelf, 0.02, metrics)
    yield source, shelf, follower, metrics
    follower.stop()
    shelf.close()


def test_a_moved_alias_is_followed(parts):
    source, shelf, follower, _ = parts
    follower.start()
    until(lambda: shelf.find("deltae") and shelf.find("deltae").served)
    source.add("deltae", "2")
    until(lambda: shelf.find("deltae").served.info.version == "2")


def test_a_registry_that_is_gone_leaves_what_is_served_and_is_found_again(parts):
    source, shelf, follower, metrics = parts
    assert follower.look().up
    until(lambda: shelf.find("deltae").served)
    source.down = "unable to open database file"
    state = follower.look()
    assert not state.up
    assert "the models that are loaded go on answering: unable to open database file" in state.note
    assert shelf.acquire(shelf.find("deltae")).model is not None
    assert metrics.registry.get_sample_value("crossprop_registry_up") == 0
    source.down = ""
    assert follower.look().note == ""
    assert metrics.registry.get_sample_value("crossprop_registry_up") == 1


def test_a_registry_that_lost_all_its_models_withdraws_nothing(parts):
    source, shelf, follower, _ = parts
    follower.look()
    kept = dict(source.versions)
    source.versions.clear()
    state = follower.look()
    assert "holds no models any more" in state.note
    assert "deltae" in shelf.names
    source.versions.update(kept)
    assert follower.look().up


def test_taking_the_last_alias_away_is_obeyed(parts):
    source, shelf, follower, _ = parts
    follower.look()
    source.move("jarvis.deltae", None)
    assert follower.look().up
    assert not shelf.names


def test_a_failed_load_is_tried_again_while_the_registry_is_gone(parts):
    source, shelf, follower, _ = parts
    source.add("spillage", damaged=True)
    follower.look()
    slot = shelf.find("spillage")
    until(lambda: slot.status.word == "unavailable")
    source.add("spillage")
    source.down = "gone"
    slot.wanted.retry_at = time.monotonic()
    follower.look()
    until(lambda: slot.status.word == "ready")


def test_whatever_a_registry_raises_does_not_end_the_following(parts, monkeypatch):
    source, _, follower, _ = parts
    monkeypatch.setattr(type(source), "wanted", lambda self: 1 / 0)
    follower.start()
    until(lambda: "ZeroDivisionError" in follower.state.note)
    monkeypatch.undo()
    until(lambda: follower.state.up)
