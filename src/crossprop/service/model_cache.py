"""The models that are served: which version answers, which one shall, and which are in memory.

All state changes on the event loop; only the work on files, models and the registry runs in threads.
"""

import asyncio
import ctypes
import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

from crossprop.data.compositions import fraction_matrix
from crossprop.errors import CrosspropError, ModelFormatError
from crossprop.inference.predictor import ServedModel
from crossprop.service.http_errors import HttpError
from crossprop.service.logs import event
from crossprop.service.metrics import Metrics
from crossprop.service.schemas import ModelMetadata, Status
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import ModelSource, metadata_of
from crossprop.tracking.registry import VersionInfo

Loader = Callable[[Path], ServedModel]
Result = TypeVar("Result")

_CHECKED = [f"{a}{n}{b}{40 - n}" for n in range(8, 33) for a, b in (("Na", "Cl"), ("Fe", "O"))]
_ROW_SECONDS = 0.001  # to predict one row with neighbours, until it has been measured
_LONGEST_RETRY = 300.0
_IDENTITY = attrgetter("name", "version", "run_id", "source")  # a version's number may be given again


@dataclass(eq=False)
class LoadedVersion:
    """One version of one model, in memory or not."""

    info: VersionInfo
    metadata: ModelMetadata = field(init=False)
    folder: Path | None = None  # local folder of its files, once they are there
    model: ServedModel | None = None
    size: int = 0  # approximate bytes of the loaded model
    used: float = 0.0  # when it was last asked for
    fault: str = ""  # why it could not be loaded, ``attempts`` times; the next time is ``retry_at``
    attempts: int = 0
    retry_at: float = 0.0
    loading: bool = False
    awaited: int = 0  # requests that wait for it
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # set at the end of an attempt to load it
    row_seconds: dict[bool, float] = field(default_factory=dict)  # to predict a row; True: with neighbours

    def __post_init__(self) -> None:
        self.metadata = metadata_of(self.info)

    def settle(self) -> None:
        """Wake what waits for it."""
        self.settled.set()
        self.settled = asyncio.Event()

    def predicted_seconds(self, rows: int, neighbours: bool) -> float:
        """Time that a thread will need for so many rows."""
        return rows * self.row_seconds.get(neighbours, _ROW_SECONDS)

    def learn_seconds(self, rows: int, neighbours: bool, seconds: float) -> None:
        """Take a measured time into account; small batches say little of large ones."""
        if rows >= 32:
            known = self.row_seconds.get(neighbours, seconds / rows)
            self.row_seconds[neighbours] = 0.7 * known + 0.3 * seconds / rows


@dataclass(eq=False)
class ServedProperty:
    """A target of a registered model: the version that answers, and the one that shall."""

    model: str
    target: str
    wanted: LoadedVersion  # the version with the alias; the same object as ``served`` when all is well
    served: LoadedVersion | None = None  # until a version was found to be loadable

    @property
    def shown(self) -> LoadedVersion:
        """The version that answers or, before there is one, that shall."""
        return self.served or self.wanted

    @property
    def status(self) -> tuple[Status, str]:
        """How the property stands, and why."""
        served, wanted = self.served, self.wanted
        if wanted.fault and served in (None, wanted):
            return "unavailable", wanted.fault
        if served is None or (served is wanted and served.model is None and served.loading):
            return "loading", ""
        if served is wanted:
            return "ready", "" if served.model else "not in memory: the first answer takes a few seconds"
        new, old = wanted.info.version, served.info.version
        if not wanted.fault:
            return "ready", f"version {new} is being loaded"
        note = f"version {new} cannot be loaded, so version {old} goes on answering: {wanted.fault}"
        return "degraded", note


class Answering(NamedTuple):
    """A property as a request names it, with the version that answers the whole request."""

    name: str
    version: LoadedVersion
    model: ServedModel


class ModelCache:
    """Loads models, keeps them within a limit of memory, and replaces versions; a request keeps what it was given."""

    def __init__(self, source: ModelSource, load: Loader, settings: ServiceSettings, metrics: Metrics) -> None:
        self.source = source
        self.properties: dict[str, ServedProperty] = {}  # by registered model
        self.names: dict[str, ServedProperty] = {}  # by target, or registered model where that is ambiguous
        self._load_folder = load
        self._settings = settings
        self._metrics = metrics
        self._changed = asyncio.Event()

    def find(self, name: str) -> ServedProperty | None:
        """A property by the name that callers use or by its registered model's."""
        return self.names.get(name) or self.properties.get(name)

    def update(self, versions: Mapping[str, VersionInfo]) -> None:
        """Take over which versions shall be served; new ones are loaded in the background, then replace the old."""
        properties = {}
        for name, info in sorted(versions.items()):
            one = self.properties.get(name) or ServedProperty(name, info.target, LoadedVersion(info))
            known = [v for v in (one.wanted, one.served) if v and _IDENTITY(v.info) == _IDENTITY(info)]
            one.wanted.settle()  # if nobody loads it any more, what waits for it asks again
            one.wanted = known[0] if known else LoadedVersion(info)
            one.wanted.info = info
            properties[name] = one
        alone = Counter(one.target for one in properties.values())
        gone = [one for name, one in self.properties.items() if name not in properties]
        self.properties = properties
        for one in gone:
            one.shown.settle()
        self.names = {one.target if alone[one.target] == 1 else n: one for n, one in properties.items()}
        self._changed.set()
        self.show()

    async def get(self, one: ServedProperty, name: str) -> Answering:
        """The version that answers for a property now; one that is not in memory is waited for."""
        try:
            async with asyncio.timeout(0.8 * self._settings.limits.seconds):
                while True:
                    version = one.shown
                    version.used = time.monotonic()
                    if version.model is not None:
                        return Answering(name, version, version.model)
                    if self.properties.get(one.model) is not one:
                        raise HttpError("UnknownNameError", f"{name} is no longer served.")
                    wait = version.retry_at - time.monotonic()
                    if version.fault and not version.loading and wait > 0:
                        message = f"{one.model} cannot be served now: {version.fault}"
                        raise HttpError("UnavailableError", message, wait)
                    version.awaited += 1
                    self._changed.set()
                    try:
                        await version.settled.wait()
                    finally:
                        version.awaited -= 1
        except TimeoutError:
            message = f"{name} is still being loaded. Ask again in a few seconds."
            raise HttpError("UnavailableError", message, 5) from None

    async def keep_loading(self) -> None:
        """Load what is due, the most urgent version first, for as long as the service runs."""
        while True:
            due = min(self._due(), default=None, key=lambda item: item[0])
            if due is None:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._load(due[1], due[2])
            if not any(self._due()):
                settle_memory()

    def show(self) -> None:
        """Update the metrics of what is served."""
        metrics = self._metrics
        metrics.served.clear()
        metrics.status.clear()
        for name, one in self.names.items():
            metrics.status.labels(name, one.status[0]).set(1)
            if one.served is not None:
                metrics.served.labels(one.model, one.served.info.version, name).set(1)
        metrics.model_bytes.set(sum(version.size for version in self._in_memory()))

    def _due(self) -> Iterator[tuple[int, ServedProperty, LoadedVersion]]:
        """Versions to load, with 0 where requests wait, 1 for a new version, 2 for a first one."""
        now = time.monotonic()
        for one in self.properties.values():
            for version in dict.fromkeys((one.shown, one.wanted)):
                if version.model is not None or version.loading or now < version.retry_at:
                    continue
                if version.awaited:
                    yield 0, one, version
                elif version is not one.served:
                    yield 1 if one.served else 2, one, version

    async def _load(self, one: ServedProperty, version: LoadedVersion) -> None:
        """Load a version and let it answer, or keep the reason why that is not possible."""
        version.loading = True
        try:
            await self._bring(one, version)
            version.fault, version.attempts, version.retry_at = "", 0, 0.0
            former = one.served
            if version is one.wanted and former is not version:
                one.served = version
                if former is not None:
                    former.model, former.size = None, 0  # requests that have it keep it
                    self._metrics.swaps.labels(one.model).inc()
                    new, old = version.info.version, former.info.version
                    event("swapped", model=one.model, version=new, former=old)
            self._make_room(version)
        except Exception as error:  # a damaged file may raise anything
            version.fault = reason_of(error)
            if not isinstance(error, CrosspropError):
                version.fault = f"its files cannot be read ({version.fault}). Register the model again."
            version.retry_at = time.monotonic() + min(_LONGEST_RETRY, 2.0 * 2**version.attempts)
            version.attempts += 1
            self._metrics.load_failures.labels(one.model).inc()
            event("cannot be loaded", logging.ERROR, model=one.model, error=version.fault)
            if one.served in (None, version):
                await self._fall_back(one, version)
        finally:
            version.loading = False
            version.settle()
            self.show()

    async def _bring(self, one: ServedProperty, version: LoadedVersion) -> None:
        """Fetch and describe a version, then load and check it, unless it shall stay on disk until it is needed."""
        began = time.monotonic()
        folder = await in_thread(self.source.folder, version.info)
        version.metadata = await in_thread(metadata_of, version.info, folder)
        version.folder = folder
        full = sum(v.size for v in self._in_memory()) + files_size(folder) > self._settings.memory_bytes
        if one.served is None and not version.awaited and full:
            return
        model = await in_thread(self._load_folder, folder)
        version.learn_seconds(len(_CHECKED), False, await in_thread(check_model, model, version.info))
        version.model = model
        version.size = files_size(folder)
        version.used = max(version.used, began)
        seconds = time.monotonic() - began
        self._metrics.loads.labels(one.model).inc()
        self._metrics.load_seconds.observe(seconds)
        event("loaded", model=one.model, version=version.info.version, seconds=round(seconds, 1))

    async def _fall_back(self, one: ServedProperty, version: LoadedVersion) -> None:
        """Serve the source's other version where the wanted one cannot be loaded at all."""
        try:
            info = await in_thread(self.source.fallback, version.info)
            if info is None or version is not one.wanted:
                return
            former = LoadedVersion(info)
            former.awaited = 1  # so that it is loaded whatever is in memory
            await self._bring(one, former)
            former.awaited = 0
            if version is not one.wanted or one.served not in (None, version):
                return  # another version has come meanwhile
        except Exception as error:
            event("no fallback", logging.WARNING, model=one.model, error=reason_of(error))
            return
        one.served = former
        self._make_room(former)

    def _in_memory(self) -> list[LoadedVersion]:
        return [one.served for one in self.properties.values() if one.served and one.served.model is not None]

    def _make_room(self, newest: LoadedVersion) -> None:
        """Unload the least recently used models beyond the limit of memory."""
        loaded = sorted(self._in_memory(), key=lambda version: version.used)
        excess = sum(version.size for version in loaded) - self._settings.memory_bytes
        for version in loaded:
            if excess > 0 and version is not newest:
                excess -= version.size
                version.model, version.size = None, 0  # loaded again when it is asked for


def check_model(model: ServedModel, info: VersionInfo) -> float:
    """Refuse a model of another target or one that cannot predict; return the seconds for ``_CHECKED``."""
    if (target := model.info.get("target")) != info.target:
        raise ModelFormatError(f"The files of {info.name} are a model of {target!r}. Register it again.")
    fractions = fraction_matrix(_CHECKED)
    began = time.perf_counter()
    model.predict(fractions)
    return time.perf_counter() - began


def reason_of(error: Exception) -> str:
    """What an error says, with its type unless it is crossprop's own."""
    return (str(error) if isinstance(error, CrosspropError) else f"{type(error).__name__}: {error}")[:500]


def files_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def settle_memory() -> None:
    """Return freed memory to the system, and hide models from the collector: it would stop requests for 0.25 s."""
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)


async def in_thread(job: Callable[..., Result], *args: object) -> Result:
    """As ``asyncio.to_thread``, but on a daemon thread: a registry that does not answer cannot delay the shutdown."""
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(job(*args))
        except StopIteration as error:  # asyncio cannot pass it on
            future.set_exception(RuntimeError(repr(error)))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="crossprop-load", daemon=True).start()
    return await asyncio.wrap_future(future)
