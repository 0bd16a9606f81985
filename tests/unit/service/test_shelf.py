from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from fake_service import FakeModel, FakeSource, load_fake
from waiting import PATIENCE, until

from crossprop.service.http_errors import UnavailableError
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Shelf, size_of
from crossprop.service.settings import ServiceSettings

BULK = "jarvis.bulkmoduluskv"


@pytest.fixture
def source(tmp_path) -> FakeSource:
    return FakeSource(tmp_path)


@pytest.fixture
def shelf_of(source) -> Iterator[Callable[..., Shelf]]:
    made: list[Shelf] = []

    def make(load=load_fake, **settings) -> Shelf:
        made.append(Shelf(source, load, ServiceSettings(**settings), Metrics()))
        return made[-1]

    yield make
    for shelf in made:
        shelf.close()


def words(shelf: Shelf) -> dict[str, str]:
    return {name: slot.status.word for name, slot in shelf.names.items()}


def test_a_champion_is_loaded_and_answers_under_the_name_of_its_target(source, shelf_of):
    source.add("bulkmoduluskv")
    shelf = shelf_of()
    shelf.update(source.wanted())
    until(lambda: words(shelf) == {"bulkmoduluskv": "ready"})
    assert shelf.find("bulkmoduluskv") is shelf.find(BULK)
    assert isinstance(shelf.acquire(shelf.find(BULK)).model, FakeModel)


def test_a_target_of_two_studies_goes_by_the_names_of_the_models(source, shelf_of):
    source.add("bulkmoduluskv")
    source.add("bulkmoduluskv", study="own")
    shelf = shelf_of()
    shelf.update(source.wanted())
    assert set(shelf.names) == {BULK, "own.bulkmoduluskv"}
    assert shelf.find("bulkmoduluskv") is None


def test_a_new_champion_answers_only_once_it_is_loaded(source, shelf_of):
    source.add("bulkmoduluskv")
    let_go = threading.Event()

    def load(folder):
        if folder.name == "2":
            let_go.wait(PATIENCE)
        return load_fake(folder)

    shelf = shelf_of(load)
    shelf.update(source.wanted())
    slot = shelf.find(BULK)
    until(lambda: slot.served)
    held = shelf.acquire(slot).model
    source.add("bulkmoduluskv", "2")
    shelf.update(source.wanted())
    assert shelf.acquire(slot).info.version == "1"
    assert slot.status.word == "ready"
    let_go.set()
    until(lambda: shelf.acquire(slot).info.version == "2")
    assert held.info["shift"] == 0.0, "a request that holds the former model keeps it"


def test_a_rollback_while_the_new_version_is_loaded_leaves_the_former_in_place(source, shelf_of):
    source.add("bulkmoduluskv")
    let_go = threading.Event()

    def load(folder):
        if folder.name == "2":
            let_go.wait(PATIENCE)
        return load_fake(folder)

    shelf = shelf_of(load)
    shelf.update(source.wanted())
    slot = shelf.find(BULK)
    until(lambda: slot.served)
    source.add("bulkmoduluskv", "2")
    shelf.update(source.wanted())
    second = slot.wanted
    source.move(BULK, "1")
    shelf.update(source.wanted())
    let_go.set()
    until(lambda: second.loading is None)
    assert shelf.acquire(slot).info.version == "1"
    assert slot.status.word == "ready"


def test_a_damaged_champion_leaves_the_former_one_answering_and_says_so(source, shelf_of):
    source.add("bulkmoduluskv")
    shelf = shelf_of()
    shelf.update(source.wanted())
    slot = shelf.find(BULK)
    until(lambda: slot.served)
    source.add("bulkmoduluskv", "2", damaged=True)
    shelf.update(source.wanted())
    until(lambda: slot.status.word == "degraded")
    assert "version 2 cannot be loaded, so version 1 goes on answering" in slot.status.note
    assert "is damaged" in slot.status.note
    assert shelf.acquire(slot).model.info["shift"] == 0.0


def test_a_damaged_champion_is_tried_again_later_and_not_at_once(source, shelf_of, monkeypatch):
    tried = []

    def load(folder):
        tried.append(folder.name)
        return load_fake(folder)

    source.add("bulkmoduluskv", damaged=True)
    shelf = shelf_of(load)
    shelf.update(source.wanted())
    slot = shelf.find(BULK)
    until(lambda: slot.wanted.attempts == 1)
    slot.wanted.retry_at += PATIENCE
    shelf.update(source.wanted())
    with pytest.raises(UnavailableError, match="is damaged") as caught:
        shelf.acquire(slot)
    assert caught.value.retry_after >= 1
    assert len(tried) == 1
    source.add("bulkmoduluskv")  # the same version, mended
    slot.wanted.retry_at = 0.0
    shelf.update(source.wanted())
    until(lambda: slot.status.word == "ready")
    assert tried == ["1", "1"]


def test_time_between_attempts_doubles(source, shelf_of):
    source.add("bulkmoduluskv", damaged=True)
    shelf = shelf_of()
    for n, pause in enumerate((2, 4, 8, 16), 1):
        began = time.monotonic()
        shelf.update(source.wanted())
        edition = shelf.find(BULK).wanted
        until(lambda: edition.attempts == n and edition.loading is None)  # noqa: B023
        assert began + pause <= edition.retry_at <= time.monotonic() + pause
        edition.retry_at = 0.0


def test_at_start_the_former_champion_stands_in_for_a_damaged_one(source, shelf_of):
    source.add("bulkmoduluskv", "1")
    source.add("bulkmoduluskv", "2", damaged=True)
    shelf = shelf_of()
    shelf.update(source.wanted())
    slot = shelf.find(BULK)
    until(lambda: slot.served)
    assert slot.served.info.version == "1"
    assert slot.status.word == "degraded"


def test_a_model_of_another_target_is_refused(source, shelf_of):
    source.add("bulkmoduluskv")
    source.add("deltae")
    files = source.root / "jarvis"
    (files / "deltae" / "1" / "model.json").replace(files / "bulkmoduluskv" / "1" / "model.json")
    shelf = shelf_of()
    shelf.update({BULK: source.wanted()[BULK]})
    slot = shelf.find(BULK)
    until(lambda: slot.status.word == "unavailable")
    assert "are a model of 'deltae'" in slot.status.note


def test_beyond_the_bound_of_memory_the_least_recently_used_model_gives_way(source, shelf_of):
    for target in ("bulkmoduluskv", "deltae", "spillage"):
        source.add(target)
    one = size_of(None, source.root / "jarvis" / "deltae" / "1")
    shelf = shelf_of(memory_bytes=int(2.5 * one), loaders=1)
    shelf.update(source.wanted())
    until(lambda: set(words(shelf).values()) == {"ready"} and shelf._queue.waiting == 0)
    in_memory = [name for name, slot in shelf.names.items() if slot.served.model is not None]
    assert in_memory == ["bulkmoduluskv", "deltae"], "the third is left on disk until it is asked for"
    assert "not in memory" in shelf.find("spillage").status.note
    shelf.acquire(shelf.find("bulkmoduluskv"))
    shelf.acquire(shelf.find("spillage")).loading.future.result(PATIENCE)
    assert [n for n, s in shelf.names.items() if s.served.model is not None] == ["bulkmoduluskv", "spillage"]
    assert words(shelf)["deltae"] == "ready"


def test_without_preloading_nothing_is_loaded_until_it_is_asked_for(source, shelf_of):
    source.add("deltae")
    shelf = shelf_of(preload=False)
    shelf.update(source.wanted())
    slot = shelf.find("deltae")
    until(lambda: slot.served)
    assert slot.served.model is None
    assert slot.shown.card.training_rows > 0
    shelf.acquire(slot).loading.future.result(PATIENCE)
    assert slot.served.model is not None


def test_what_somebody_waits_for_is_loaded_before_the_rest(source, shelf_of):
    order, let_go = [], threading.Event()

    def load(folder):
        order.append(folder.parent.name)
        let_go.wait(PATIENCE)
        return load_fake(folder)

    for target in ("bulkmoduluskv", "deltae", "magmom_oszicar", "spillage"):
        source.add(target)
    shelf = shelf_of(load, loaders=1)
    shelf.update(source.wanted())
    until(lambda: order)
    shelf.acquire(shelf.find("spillage"))
    let_go.set()
    until(lambda: len(order) == 4)
    assert order[1] == "spillage"


def test_a_property_whose_alias_was_taken_away_is_served_no_longer(source, shelf_of):
    source.add("bulkmoduluskv")
    source.add("deltae")
    shelf = shelf_of()
    shelf.update(source.wanted())
    source.move(BULK, None)
    shelf.update(source.wanted())
    assert set(shelf.names) == {"deltae"}


def test_metrics_tell_versions_statuses_loads_and_failures(source, shelf_of):
    source.add("bulkmoduluskv")
    source.add("deltae", damaged=True)
    shelf = shelf_of()
    shelf.update(source.wanted())
    until(lambda: words(shelf) == {"bulkmoduluskv": "ready", "deltae": "unavailable"})
    value = shelf._metrics.registry.get_sample_value
    until(lambda: value("crossprop_property_status", {"property": "deltae", "status": "unavailable"}) == 1)
    assert value("crossprop_model_loads_total", {"model": BULK}) == 1
    assert value("crossprop_model_load_failures_total", {"model": "jarvis.deltae"}) == 1
    served = {"model": BULK, "version": "1", "property": "bulkmoduluskv"}
    assert value("crossprop_served_version", served) == 1
    assert value("crossprop_model_bytes") > 0
