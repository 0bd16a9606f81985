"""The models that are served: which version answers, which one is wanted, which of them are in memory."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from crossprop.service.cards import card_of_folder, card_of_tags
from crossprop.service.editions import Edition, Slot, check_model, fault_of, size_of
from crossprop.service.loading import LoadQueue, Urgency, settle_memory
from crossprop.service.metrics import Metrics
from crossprop.service.refusals import UnavailableError
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import ModelSource
from crossprop.serving.served import ServedModel

if TYPE_CHECKING:
    from crossprop.tracking.lookup import VersionInfo

log = logging.getLogger("crossprop.service")
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
