"""The models that are served: which version answers, which one is wanted, which of them are in memory."""

from __future__ import annotations

import ctypes
import gc
import heapq
import itertools
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import CrosspropError, ModelFormatError
from crossprop.inference.predictor import ServedModel
from crossprop.service.http_errors import UnavailableError
from crossprop.service.metrics import Metrics
from crossprop.service.models import Card, ModelSource, card_of_folder, card_of_tags
from crossprop.service.settings import ServiceSettings

if TYPE_CHECKING:
    from crossprop.tracking.registry import VersionInfo

log = logging.getLogger("crossprop.service")
Result = TypeVar("Result")


class Urgency(IntEnum):
    """Who waits for a load."""

    REQUEST = 0
    NEW_VERSION = 1
    PRELOAD = 2


@dataclass(eq=False)
class Load(Generic[Result]):
    """One load, waiting, going on or done.

    Attributes:
        job: What it does.
        future: Its outcome.
    """

    job: Callable[[], Result]
    future: Future[Result] = field(default_factory=Future)
    _taken: bool = False

    def take(self) -> bool:
        """Whether the caller is the first to take it (it may stand in the queue twice)."""
        if self._taken:
            return False
        self._taken = True
        return self.future.set_running_or_notify_cancel()


class LoadQueue:
    """Threads that work on loads in the order of their urgency."""

    def __init__(self, threads: int, when_idle: Callable[[], None] | None = None) -> None:
        """Start the threads.

        Args:
            threads: How many loads go on at a time.
            when_idle: Called after a load if none waits.
        """
        self._when_idle = when_idle
        self._heap: list[tuple[int, int, Load]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"crossprop-load-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Callable[[], Result], urgency: Urgency) -> Load[Result]:
        """Queue a load."""
        load = Load(job)
        self.hurry(load, urgency)
        return load

    def hurry(self, load: Load, urgency: Urgency) -> None:
        """Queue a load that waits already once more, with another urgency."""
        with self._changed:
            heapq.heappush(self._heap, (urgency, next(self._numbers), load))
            self._changed.notify()

    @property
    def waiting(self) -> int:
        """Loads that nobody works on yet."""
        return len({id(load) for _, _, load in list(self._heap) if not load.future.running()})

    def close(self) -> None:
        """Begin no further load; whoever waits for one is told."""
        with self._changed:
            self._closed = True
            for _, _, load in self._heap:
                load.future.cancel()
            self._heap.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._heap and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                _, _, load = heapq.heappop(self._heap)
                if not load.take():
                    continue
            try:
                load.future.set_result(load.job())
            except BaseException as error:
                _let_go(error)
                load.future.set_exception(error)
            if self._when_idle is not None and not self._heap:
                self._when_idle()


def _let_go(error: BaseException) -> None:
    """Free what the functions that failed had in hand.

    A failure remembers them with all their variables: a model that was loaded in part. Taken out of the garbage
    collector's sight together with what was loaded well, it would stay for ever, once for every attempt.
    """
    failure: BaseException | None = error
    while failure is not None:
        traceback.clear_frames(failure.__traceback__)
        failure = failure.__cause__ or failure.__context__


def settle_memory() -> None:
    """Take what has been loaded out of the garbage collector's sight, and give freed memory back to the system.

    Models are hundreds of thousands of objects that live for days. Looking through all of them, which Python does
    every now and then, would stop every request for a quarter of a second; for the same reason only what is young is
    looked through here. A model that is let go is freed all the same: nothing in it refers to itself.
    """
    gc.collect(1)
    gc.freeze()
    # What a load needed in passing, and models that gave way, stay with the C library unless it is asked for them.
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True)
class Status:
    """How a property stands: ``ready``, ``loading``, ``degraded`` or ``unavailable``, and why."""

    word: str
    note: str = ""


@dataclass(eq=False)
class Edition:
    """One version of one model, in memory or not.

    Attributes:
        info: The version.
        card: What is told of it.
        folder: Local folder of its files, once they are there.
        model: The loaded model; ``None`` while it is not in memory.
        size: Bytes that the model takes, roughly.
        used: When it was last asked for; 0 if never.
        fault: Why it could not be loaded.
        attempts: How often that was tried in vain.
        retry_at: When to try again.
        loading: The load that waits or is going on.
    """

    info: VersionInfo
    card: Card
    folder: Path | None = None
    model: ServedModel | None = None
    size: int = 0
    used: float = 0.0
    fault: str = ""
    attempts: int = 0
    retry_at: float = 0.0
    loading: Load[Any] | None = None

    def is_of(self, info: VersionInfo) -> bool:
        """Whether it is this very version (a number may be given again in a registry that was made anew)."""
        mine = self.info
        return (mine.name, mine.version, mine.run_id, mine.source) == (
            info.name,
            info.version,
            info.run_id,
            info.source,
        )

    def unload(self) -> None:
        """Let go of the model; it is loaded again when it is asked for."""
        self.model, self.size = None, 0


@dataclass(eq=False)
class Slot:
    """A property: the edition that answers, and the one that is to take its place.

    Attributes:
        model: Registered model.
        target: Its target.
        wanted: What should answer; the same object as ``served`` when all is well.
        served: What answers; ``None`` until something was found to be loadable.
    """

    model: str
    target: str
    wanted: Edition
    served: Edition | None = None

    @property
    def shown(self) -> Edition:
        """The edition that is told of."""
        return self.served or self.wanted

    @property
    def status(self) -> Status:
        """How the property stands."""
        served, wanted = self.served, self.wanted
        if served is None:
            return Status("unavailable", wanted.fault) if wanted.fault else Status("loading")
        if served is wanted:
            if wanted.fault:
                return Status("unavailable", wanted.fault)
            if wanted.model is not None:
                return Status("ready")
            if wanted.loading is not None:
                return Status("loading")
            return Status("ready", "not in memory: the first answer takes a few seconds")
        if not wanted.fault:
            return Status("ready", f"version {wanted.info.version} is being loaded")
        return Status(
            "degraded",
            f"version {wanted.info.version} cannot be loaded, so version {served.info.version} goes on answering: "
            f"{wanted.fault}",
        )


def check_model(model: ServedModel, info: VersionInfo) -> ServedModel:
    """Refuse a model of something else, or one that does not answer.

    Raises:
        ModelFormatError: It is another target's, of other elements, or gives no number for a simple composition.
    """
    if model.info.get("target") != info.target:
        raise ModelFormatError(
            f"The files of {info.name}, version {info.version}, are a model of {model.info.get('target')!r}. "
            "Register it again."
        )
    fractions = np.zeros((2, len(ELEMENTS)))
    fractions[0, [ELEMENTS.index("Na"), ELEMENTS.index("Cl")]] = 0.5
    fractions[1, [ELEMENTS.index("Fe"), ELEMENTS.index("O")]] = 0.4, 0.6
    if not np.isfinite(model.predict(fractions).value).all():
        raise ModelFormatError(f"{info.name}, version {info.version}, gives no numbers. Do not use it.")
    return model


def fault_of(error: Exception) -> str:
    """Why a model could not be loaded, and what to do: what is no refusal of ours says neither by itself."""
    if isinstance(error, CrosspropError):
        return str(error)[:500]
    told = f"{type(error).__name__}: {error}"[:300]
    return (
        f"its files, or their compiled form in the cache, cannot be read ({told}). Register the model again."
    )


def size_of(model: ServedModel | None, folder: Path) -> int:
    """Bytes that a model takes, roughly: what it says itself, or else the size of its files."""
    said = getattr(getattr(model, "predictor", None), "n_bytes", None)
    return int(said) if said else sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


Loader = Callable[[Path], ServedModel]
_LONGEST_BACKOFF = 300.0


class Shelf:
    """Loads models, keeps them within a bound of memory, and swaps versions between two requests.

    A request holds on to the model that it was given, so that a swap never mixes versions within an answer.

    Attributes:
        slots: Slots by registered model.
        names: Slots by the name that callers use: the target, or the registered model where that is ambiguous.
    """

    def __init__(
        self, source: ModelSource, load: Loader, settings: ServiceSettings, metrics: Metrics
    ) -> None:
        self.source = source
        self.slots: Mapping[str, Slot] = MappingProxyType({})
        self.names: Mapping[str, Slot] = MappingProxyType({})
        self._load_folder = load
        self._settings = settings
        self._metrics = metrics
        self._lock = threading.RLock()
        self._missed: list[str] = []
        self._queue = LoadQueue(settings.loaders, settle_memory)

    def find(self, name: str) -> Slot | None:
        """The slot of a property, by the name that callers use or its registered model's."""
        return self.names.get(name) or self.slots.get(name)

    def update(self, versions: Mapping[str, VersionInfo]) -> None:
        """Take over what the source wants served; what is new is loaded in the background, then swapped in."""
        with self._lock:
            slots = {name: self._updated(name, info) for name, info in sorted(versions.items())}
            for name in self.slots.keys() - slots.keys():
                log.info("no longer served", extra={"fields": {"model": name}})
            targets = [slot.target for slot in slots.values()]
            self.slots = MappingProxyType(slots)
            self.names = MappingProxyType(
                {
                    slot.target if targets.count(slot.target) == 1 else name: slot
                    for name, slot in slots.items()
                }
            )
            self._tend()
            self.show()

    def acquire(self, slot: Slot) -> Edition:
        """What answers for a property now; its ``model`` is there, or its ``loading`` has to be waited for.

        Raises:
            UnavailableError: No version of it can be loaded.
        """
        with self._lock:
            edition = slot.served or slot.wanted
            edition.used = time.monotonic()
            if edition.model is not None:
                return edition
            if edition.loading is not None:
                self._queue.hurry(edition.loading, Urgency.REQUEST)
            elif edition.fault and (wait := edition.retry_at - time.monotonic()) > 0:
                raise UnavailableError(
                    f"{slot.model} cannot be served now: {edition.fault}", retry_after=max(1, round(wait))
                )
            else:
                self._start(slot, edition, Urgency.REQUEST)
            return edition

    def tell_missing(self) -> None:
        """Log, once, what was named to be served and has no version with the alias."""
        wanted = self._settings
        missed = [name for name in wanted.properties if self.find(name) is None]
        if not (missed or self.slots):
            missed = ["every model"]
        if missed and missed != self._missed:
            fields = {"alias": wanted.alias, "study": wanted.study, "missing": missed}
            log.warning("no version has the alias", extra={"fields": fields})
        self._missed = missed

    def close(self) -> None:
        """Begin no further load."""
        self._queue.close()

    def show(self) -> None:
        """Tell the metrics what is served."""
        with self._lock:
            served = {name: slot.served for name, slot in self.names.items() if slot.served is not None}
            self._metrics.show(
                {name: (e.info.name, e.info.version) for name, e in served.items()},
                {name: slot.status.word for name, slot in self.names.items()},
            )
            self._metrics.model_bytes.set(sum(e.size for e in self._loaded()))

    def _updated(self, name: str, info: VersionInfo) -> Slot:
        slot = self.slots.get(name)
        if slot is None:
            return Slot(name, info.target, Edition(info, card_of_tags(info)))
        for edition in (slot.wanted, slot.served):
            if edition is not None and edition.is_of(info):
                edition.info = info
                slot.wanted = edition
                return slot
        log.info("new version", extra={"fields": {"model": name, "version": info.version}})
        slot.wanted = Edition(info, card_of_tags(info))
        return slot

    def _tend(self) -> None:
        """Start the loads that are due: new versions, first loads, and failed ones whose time has come."""
        for slot in self.slots.values():
            edition = slot.wanted
            if edition is slot.served or edition.loading is not None or time.monotonic() < edition.retry_at:
                continue
            self._start(slot, edition, Urgency.PRELOAD if slot.served is None else Urgency.NEW_VERSION)

    def _start(self, slot: Slot, edition: Edition, urgency: Urgency) -> None:
        lazily = urgency == Urgency.PRELOAD
        edition.loading = self._queue.submit(lambda: self._bring(slot, edition, lazily), urgency)

    def _bring(self, slot: Slot, edition: Edition, lazily: bool) -> None:
        """Fetch, describe, load and check an edition, then let it answer; or keep the reason why not."""
        if edition not in (slot.served, slot.wanted):
            edition.loading = None  # another version is wanted by now
            return
        began = time.monotonic()
        try:
            folder = self.source.folder(edition.info)
            edition.card, edition.folder = card_of_folder(edition.info, folder), folder
            wait = lazily and self._later(edition, folder)
            model = None if wait else check_model(self._load_folder(folder), edition.info)
        except Exception as error:  # a damaged file may raise anything
            self._failed(slot, edition, error)
            raise UnavailableError(
                f"{slot.model} cannot be served now: {edition.fault}", retry_after=5
            ) from error
        if model is not None:
            self._metrics.loads.labels(slot.model).inc()
            seconds = time.monotonic() - began
            self._metrics.load_seconds.observe(seconds)
            fields = {"model": slot.model, "version": edition.info.version, "seconds": round(seconds, 1)}
            log.info("loaded", extra={"fields": fields})
        self._arrived(slot, edition, model, folder)

    def _later(self, edition: Edition, folder: Path) -> bool:
        """Whether a model is left on disk until somebody asks for it."""
        if edition.used:
            return False
        taken = sum(e.size for e in self._loaded())
        return not self._settings.preload or taken + size_of(None, folder) > self._settings.memory_bytes

    def _arrived(self, slot: Slot, edition: Edition, model: ServedModel | None, folder: Path) -> None:
        with self._lock:
            edition.model, edition.loading = model, None
            edition.fault, edition.attempts, edition.retry_at = "", 0, 0.0
            edition.size = 0 if model is None else size_of(model, folder)
            former = slot.served
            if edition is slot.wanted and former is not edition:
                slot.served = edition
                if former is not None:
                    former.unload()  # requests that have it keep it until they are answered
                    self._metrics.swaps.labels(slot.model).inc()
                    log.info(
                        "swapped",
                        extra={
                            "fields": {
                                "model": slot.model,
                                "version": edition.info.version,
                                "former": former.info.version,
                            }
                        },
                    )
            self._make_room(edition)
            self.show()

    def _failed(self, slot: Slot, edition: Edition, error: Exception) -> None:
        with self._lock:
            edition.fault, edition.loading = fault_of(error), None
            edition.retry_at = time.monotonic() + min(_LONGEST_BACKOFF, 2.0 * 2**edition.attempts)
            edition.attempts += 1
            self._metrics.load_failures.labels(slot.model).inc()
            log.error(
                "cannot be loaded",
                extra={
                    "fields": {"model": slot.model, "version": edition.info.version, "error": edition.fault}
                },
            )
        if slot.served in (None, edition):
            self._fall_back(slot, edition)
        self.show()

    def _fall_back(self, slot: Slot, edition: Edition) -> None:
        """Serve the former champion where the present one cannot be loaded at all."""
        try:
            info = self.source.fallback(edition.info)
            if info is None or not edition.is_of(slot.wanted.info):
                return
            former = Edition(info, card_of_tags(info))
            former.folder = self.source.folder(info)
            former.card = card_of_folder(info, former.folder)
            former.model = check_model(self._load_folder(former.folder), info)
            former.size = size_of(former.model, former.folder)
        except Exception as error:
            log.warning("no fallback", extra={"fields": {"model": slot.model, "error": str(error)[:500]}})
            return
        with self._lock:
            if slot.served in (None, edition):
                slot.served = former
                self._make_room(former)

    def _loaded(self) -> list[Edition]:
        editions = (slot.served for slot in self.slots.values())
        return [e for e in editions if e is not None and e.model is not None]

    def _make_room(self, newest: Edition) -> None:
        loaded = sorted(self._loaded(), key=lambda e: e.used)
        taken = sum(e.size for e in loaded)
        for edition in loaded:
            if taken <= self._settings.memory_bytes:
                return
            if edition is not newest:
                taken -= edition.size
                edition.unload()


@dataclass(frozen=True)
class RegistryState:
    """The registry when it was last asked.

    Attributes:
        up: Whether it answered.
        note: What was wrong, and what goes on regardless.
        at: When that was, in seconds of ``time.monotonic``.
    """

    up: bool
    note: str = ""
    at: float = 0.0


class Follower:
    """Asks the source of models again and again, in a thread of its own."""

    def __init__(self, shelf: Shelf, seconds: float, metrics: Metrics) -> None:
        self.state = RegistryState(False, "not asked yet")
        self._shelf = shelf
        self._seconds = seconds
        self._metrics = metrics
        self._asking = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="crossprop-follow", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def look(self) -> RegistryState:
        """Ask now; what is new begins to be loaded."""
        with self._asking:
            try:
                versions = self._shelf.source.wanted()
                lost = not versions and bool(self._shelf.slots) and not self._shelf.source.everything()
            except Exception as error:  # whatever a database, a server or a file system may raise
                self._set(RegistryState(False, self._gone(error), time.monotonic()))
                self._shelf.update({name: slot.wanted.info for name, slot in self._shelf.slots.items()})
                return self.state
            if lost:
                note = "the registry holds no models any more; those that are loaded go on answering"
                self._set(RegistryState(False, note, time.monotonic()))
                return self.state
            self._set(RegistryState(True, "", time.monotonic()))
            self._shelf.update(versions)
            self._shelf.tell_missing()
            return self.state

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self.look()
            self._stopped.wait(self._seconds)

    def _set(self, state: RegistryState) -> None:
        if state.up != self.state.up or (not state.up and state.note != self.state.note):
            level = logging.INFO if state.up else logging.WARNING
            fields = {"where": self._shelf.source.where, "up": state.up, "note": state.note}
            log.log(level, "registry", extra={"fields": fields})
        self.state = state
        self._metrics.registry_up.set(state.up)
        if state.up:
            self._metrics.registry_polled.set_to_current_time()

    def _gone(self, error: Exception) -> str:
        said = str(error) if isinstance(error, CrosspropError) else f"{type(error).__name__}: {error}"
        going_on = "; the models that are loaded go on answering" if self._shelf.slots else ""
        return f"the registry does not answer{going_on}: {said[:400]}"
