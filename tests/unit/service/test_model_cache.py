"""Which version answers, what is loaded, what happens when a model or the registry fails; executors and batches."""

import asyncio
import gc
import shutil
import threading
import time

import pytest
from fake_service import FakeModel, FakeSource, held_back, load_fake
from made_evidence import made_evidence, write_model
from waiting import PATIENCE

from crossprop.service import state
from crossprop.service.http_errors import HttpError
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import files_size
from crossprop.service.prediction import Batcher, Predictor
from crossprop.service.settings import Limits, ServiceSettings
from crossprop.service.sources import FolderSource, RegistrySource
from crossprop.service.state import Service
from crossprop.tracking import registry

BULK = "jarvis.bulkmoduluskv"


@pytest.fixture
def source(tmp_path):
    return FakeSource(tmp_path)


@pytest.fixture
def run(source):
    """Runs an async function with a running service whose registry is polled by hand after the first time."""

    def start(scenario, load=load_fake, **settings):
        async def main():
            service = Service(ServiceSettings(poll_seconds=1000.0, **settings), source, load)
            async with service.running():
                await until(lambda: service.polled)
                await scenario(service)

        asyncio.run(main())
        gc.unfreeze()

    return start


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


async def get(service, name):
    return await service.cache.get(service.cache.find(name), name)


def statuses(service):
    return {name: one.status[0] for name, one in service.cache.names.items()}


def test_a_champion_answers_under_the_name_of_its_target_or_model(source, run):
    source.add("bulkmoduluskv")
    source.add("deltae")
    source.add("deltae", study="own")

    async def scenario(service):
        assert set(service.cache.names) == {"bulkmoduluskv", "jarvis.deltae", "own.deltae"}
        assert service.cache.find("bulkmoduluskv") is service.cache.find(BULK)
        assert service.cache.find("deltae") is None
        assert isinstance((await get(service, BULK)).model, FakeModel)
        source.move("own.deltae", None)
        await service.poll()
        assert set(service.cache.names) == {"bulkmoduluskv", "deltae"}

    run(scenario)


@pytest.mark.parametrize("rolled_back", [False, True])
def test_a_new_champion_answers_only_once_it_is_loaded(source, run, rolled_back):
    source.add("bulkmoduluskv")
    gate = threading.Event()

    async def scenario(service):
        held = await get(service, BULK)
        source.add("bulkmoduluskv", "2")
        await service.poll()
        second = service.cache.find(BULK).wanted
        assert (await get(service, BULK)).version is held.version
        assert statuses(service) == {"bulkmoduluskv": "ready"}
        if rolled_back:
            source.move(BULK, "1")
            await service.poll()
        gate.set()
        await until(lambda: second.model is not None and not second.loading)
        assert (await get(service, BULK)).version.info.version == ("1" if rolled_back else "2")
        assert held.model.info["shift"] == 0.0, "a request that holds the former model keeps it"
        assert statuses(service) == {"bulkmoduluskv": "ready"}

    run(scenario, held_back(gate, "2"))


def test_a_damaged_champion_leaves_the_former_one_answering_and_is_tried_again(source, run):
    source.add("bulkmoduluskv")

    async def scenario(service):
        await get(service, BULK)
        source.add("bulkmoduluskv", "2", damaged=True)
        await service.poll()
        one = service.cache.find(BULK)
        for attempt, pause in enumerate((2, 4, 8), 1):
            await until(lambda: one.wanted.attempts == attempt and not one.wanted.loading)  # noqa: B023
            assert pause - 1 < one.wanted.retry_at - time.monotonic() <= pause
            one.wanted.retry_at = 0.0
            await service.poll()
        assert one.status[0] == "degraded"
        assert "version 2 cannot be loaded, so version 1 goes on answering" in one.status[1]
        assert "is damaged" in one.status[1]
        assert (await get(service, BULK)).version.info.version == "1"
        source.add("bulkmoduluskv", "2")  # the files are restored
        source.down = "gone"  # a registry that is down is no reason to wait
        await until(lambda: not one.wanted.loading)
        one.wanted.retry_at = 0.0
        await service.poll()
        await until(lambda: one.status[0] == "ready")
        assert (await get(service, BULK)).version.info.version == "2"

    run(scenario)


def test_at_start_the_former_champion_replaces_a_damaged_one(source, run):
    source.add("bulkmoduluskv", "1")
    source.add("bulkmoduluskv", "2", damaged=True)

    async def scenario(service):
        assert (await get(service, BULK)).version.info.version == "1"
        assert statuses(service) == {"bulkmoduluskv": "degraded"}

    run(scenario)


def test_the_champion_replaces_a_damaged_challenger_the_former_one_a_champion(source, monkeypatch):
    for version, alias in (("1", "champion"), ("2", "champion"), ("3", "challenger")):
        source.add("bulkmoduluskv", version, alias=alias)
    (model,) = source.everything()
    monkeypatch.setattr(registry, "find_model", lambda uri, name: model)
    for alias, other in (("champion", "1"), ("challenger", "2")):
        assert RegistrySource("", alias).fallback(model.holder(alias)).version == other


def test_a_model_that_cannot_be_loaded_is_refused_at_once_until_the_next_attempt(source, run):
    source.add("bulkmoduluskv", damaged=True)
    source.add("deltae")
    source.add("spillage")
    files = source.root / "jarvis"
    shutil.rmtree(files / "spillage" / "1")
    shutil.copytree(files / "deltae" / "1", files / "spillage" / "1")
    (files / "deltae" / "1" / "model.json").write_text("no json")

    async def scenario(service):
        await until(lambda: set(statuses(service).values()) == {"unavailable"})
        reasons = {"bulkmoduluskv": "is damaged", "deltae": "model.json", "spillage": "model of 'deltae'"}
        for name, reason in reasons.items():
            service.cache.find(name).wanted.retry_at += PATIENCE
            with pytest.raises(HttpError, match=reason) as caught:
                await get(service, name)
            assert int(caught.value.headers["Retry-After"]) >= 1
        value = service.metrics.registry.get_sample_value
        status = {"property": "bulkmoduluskv", "status": "unavailable"}
        assert value("crossprop_property_status", status) == 1
        assert value("crossprop_model_load_failures_total", {"model": BULK}) >= 1

    run(scenario)


def test_beyond_the_limit_of_memory_the_least_recently_used_model_is_unloaded(source, run, monkeypatch):
    monkeypatch.setattr(state, "LOADERS", 1)
    for target in ("bulkmoduluskv", "deltae", "spillage"):
        source.add(target)
    size = files_size(source.root / "jarvis" / "deltae" / "1")

    async def scenario(service):
        def in_memory():
            return [name for name, one in service.cache.names.items() if one.served.model is not None]

        await until(lambda: set(statuses(service).values()) == {"ready"})
        assert in_memory() == ["bulkmoduluskv", "deltae"], "the third is left on disk until it is asked for"
        assert "not in memory" in service.cache.find("spillage").status[1]
        await get(service, "bulkmoduluskv")
        await get(service, "spillage")
        assert in_memory() == ["bulkmoduluskv", "spillage"]
        assert statuses(service)["deltae"] == "ready"
        value = service.metrics.registry.get_sample_value
        assert value("crossprop_model_bytes") > 1.5 * size
        assert value("crossprop_model_loads_total", {"model": BULK}) == 1

    run(scenario, memory_bytes=int(2.5 * size))


def test_a_request_for_a_version_that_is_replaced_before_it_is_loaded_gets_the_new_one(source, run, monkeypatch):
    monkeypatch.setattr(state, "LOADERS", 1)
    for target in ("bulkmoduluskv", "spillage"):
        source.add(target)
    gate = threading.Event()

    async def scenario(service):
        asked = asyncio.create_task(get(service, "spillage"))
        first = service.cache.find("spillage").wanted
        await until(lambda: first.awaited)
        source.add("spillage", "2")
        await service.poll()
        await until(lambda: service.cache.find("spillage").wanted.awaited)
        gate.set()
        assert (await asked).version.info.version == "2"
        assert first.model is None

    run(scenario, held_back(gate, "bulkmoduluskv"))


def test_a_version_that_comes_while_the_former_one_is_loaded_is_not_displaced_by_it(source, run):
    source.add("bulkmoduluskv", "1")
    source.add("bulkmoduluskv", "2", damaged=True)
    gate = threading.Event()

    async def scenario(service):
        one = service.cache.find("bulkmoduluskv")
        await until(lambda: one.wanted.fault and one.wanted.loading)
        source.add("bulkmoduluskv", "3")
        await service.poll()
        await until(lambda: one.served and one.served.model)
        gate.set()
        await until(lambda: not any(thread.name == "crossprop-load" for thread in threading.enumerate()))
        await asyncio.sleep(0.05)
        assert one.served.info.version == "3"

    run(scenario, held_back(gate, "1"))


def test_a_request_that_waits_for_a_property_that_is_withdrawn_is_told_at_once(source, run):
    source.add("bulkmoduluskv")
    source.add("deltae")
    gate = threading.Event()

    async def scenario(service):
        asked = asyncio.create_task(get(service, "deltae"))
        await until(lambda: service.cache.find("deltae").wanted.awaited)
        source.move("jarvis.deltae", None)
        await service.poll()
        with pytest.raises(HttpError, match="no longer served"):
            await asyncio.wait_for(asked, 1)
        gate.set()

    run(scenario, held_back(gate, "deltae"))


def test_a_registry_that_lost_all_its_models_withdraws_nothing_but_a_removed_alias_does(source, run):
    source.add("deltae")

    async def scenario(service):
        kept = dict(source.versions)
        source.versions.clear()
        await service.poll()
        assert "holds no models any more" in service.registry.note
        assert service.metrics.registry.get_sample_value("crossprop_registry_up") == 0
        assert "deltae" in service.cache.names
        source.versions.update(kept)
        source.move("jarvis.deltae", None)
        await service.poll()
        assert service.registry.up
        assert not service.cache.names

    run(scenario)


@pytest.fixture
def executor():
    predictor = Predictor(None, 2, Limits(waiting=3, seconds=10.0), Metrics())
    yield predictor.small
    predictor.close()


def test_more_requests_than_may_wait_are_told_to_come_back(executor):
    with executor.place(), executor.place():
        with pytest.raises(ZeroDivisionError), executor.place():
            raise ZeroDivisionError  # a request that fails leaves its place
        with executor.place(), pytest.raises(HttpError, match="3 requests are waiting") as caught:
            executor.place().__enter__()
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})


def test_work_that_cannot_be_done_in_time_is_refused_unless_nothing_waits(executor):
    gate = threading.Event()

    async def run():
        # 50 s on two threads
        first = asyncio.create_task(executor.run([(100.0, lambda: gate.wait(PATIENCE))]))
        await asyncio.sleep(0)
        with pytest.raises(HttpError, match="50 seconds of work wait already") as caught:
            await executor.run([(1.0, lambda: None)])
        assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "10")
        gate.set()
        assert await first == [True]
        await asyncio.sleep(0)
        assert await executor.run([(1.0, lambda: 7)]) == [7]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("requests", "calls", "failed"),
    [
        ([["a"], ["b", "c"], ["d"]], [["a"], ["b", "c", "d"]], []),
        ([["a"], ["b"] * 63, ["c"] * 2, ["d"] * 69], [["a"], ["b"] * 63, ["c"] * 2, ["d"] * 69], []),
        ([["a"], ["b"], ["bad"]], [["a"], ["b", "bad"], ["b"], ["bad"]], [2]),
    ],
    ids=["together", "at most 64, but a single request may exceed it", "a failure fails no other request"],
)
def test_requests_that_come_while_one_is_computed_are_computed_together(executor, requests, calls, failed):
    seen, gate = [], threading.Event()

    def compute(formulas):
        seen.append(list(formulas))
        if len(seen) == 1:
            gate.wait(PATIENCE)
        if "bad" in formulas:
            raise ArithmeticError("no")
        return [{"formula": formula} for formula in formulas]

    async def run():
        batcher = Batcher(executor)
        tasks = []
        for formulas in (*requests, ["gone"]):
            tasks.append(asyncio.create_task(batcher.results("kind", formulas, compute)))
            await asyncio.sleep(0.02)
        tasks.pop().cancel()
        apart = batcher.results("other kind", ["x"], lambda formulas: [{"formula": "x"}])
        assert await asyncio.wait_for(apart, PATIENCE) == b'{"formula":"x"}'
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    got = asyncio.run(run())
    assert seen == calls
    for number, formulas in enumerate(requests):
        if number in failed:
            assert isinstance(got[number], ArithmeticError)
        else:
            assert got[number] == ",".join(f'{{"formula":"{formula}"}}' for formula in formulas).encode()


def test_a_folder_whose_files_are_replaced_is_another_version(tmp_path):
    source = FolderSource([write_model(tmp_path, made_evidence())])
    (first,), (same,) = source.wanted().values(), source.wanted().values()
    assert (first.target, first.version) == ("made_up", same.version)
    write_model(tmp_path, made_evidence(), value=49.0)
    assert [later.version != first.version for later in source.wanted().values()] == [True]
