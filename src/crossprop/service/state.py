"""What one running service consists of, and what it says of itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crossprop.errors import CrosspropError
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Follower, Loader, Shelf, Slot
from crossprop.service.models import ModelSource
from crossprop.service.prediction import Batcher, Desk, Lane
from crossprop.service.settings import ServiceSettings

if TYPE_CHECKING:
    from crossprop.tracking.client import ModelInfo, VersionInfo

log = logging.getLogger("crossprop.service")


@dataclass
class Service:
    """The parts of a service; ``start`` and ``stop`` frame its life.

    Attributes:
        settings: What it was told.
        source: Where its models come from.
        load: Loads a saved model's folder.
    """

    settings: ServiceSettings
    source: ModelSource
    load: Loader
    metrics: Metrics = field(default_factory=Metrics)
    _known: list[ModelInfo] = field(default_factory=list)
    _known_at: float = -1e9
    _listing: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        settings, limits, gauge = self.settings, self.settings.limits, self.metrics.waiting
        self.shelf = Shelf(self.source, self.load, settings, self.metrics)
        self.follower = Follower(self.shelf, settings.poll_seconds, self.metrics)
        self.quick = Lane("quick", settings.threads, limits.waiting, gauge)
        self.bulk = Lane("bulk", settings.threads, limits.waiting, gauge, yields=True)
        self.desk = Desk(self.shelf, self.quick, self.bulk, Batcher(self.quick), limits, self.metrics)

    def start(self) -> None:
        """Begin to follow the registry and to load models."""
        self.follower.start()

    def stop(self) -> None:
        """Begin nothing further."""
        self.follower.stop()
        self.shelf.close()
        self.quick.close()
        self.bulk.close()

    @property
    def answering(self) -> int:
        """Properties for which something answers."""
        return sum(
            slot.served is not None and slot.status.word != "unavailable"
            for slot in self.shelf.slots.values()
        )

    @property
    def advice(self) -> str:
        """Why nothing is served yet, and what to do."""
        state = self.follower.state
        if not state.up:
            return f"Nothing is served: {state.note}"
        if not self.shelf.slots:
            of = f" of study {self.settings.study!r}" if self.settings.study else ""
            named = f" among {', '.join(self.settings.properties)}" if self.settings.properties else ""
            return (
                f"No model{of}{named} has the alias {self.settings.alias!r}. Give it to one with 'crossprop promote "
                "<target>' ('crossprop models' lists them), or serve a folder with --model; this service will notice."
            )
        stuck = [slot.status.note for slot in self.shelf.slots.values() if slot.status.word == "unavailable"]
        if stuck:
            return f"None of {len(self.shelf.slots)} models can be served: {stuck[0]}"
        return f"{len(self.shelf.slots)} models are being loaded. Ask again in a few seconds."

    def properties(self) -> list[dict[str, Any]]:
        """What ``/v1/properties`` says; nothing is loaded for it."""
        shown = []
        for name, slot in sorted(self.shelf.names.items()):
            edition, status = slot.shown, slot.status
            shown.append(
                {
                    "name": name,
                    "model": slot.model,
                    "version": edition.info.version,
                    **edition.card.as_dict,
                    "status": status.word,
                    "status_note": status.note,
                }
            )
        return shown

    def registry(self) -> dict[str, Any]:
        """The registry as it was seen last."""
        state = self.follower.state
        return {"where": self.source.where, "up": state.up, "note": state.note}

    def models(self) -> list[dict[str, Any]]:
        """What ``/v1/models`` says; asks the registry, at most once per ``poll_seconds``. Blocks."""
        names = {slot.model: name for name, slot in self.shelf.names.items()}
        slots = self.shelf.slots
        shown = {
            model.name: _model_note(model, slots.get(model.name), names.get(model.name))
            for model in self._list()
        }
        for name, slot in slots.items():  # served from a folder, or while the registry is gone
            shown.setdefault(name, _folder_note(slot, names.get(name)))
        return [shown[name] for name in sorted(shown)]

    def _list(self) -> list[ModelInfo]:
        with self._listing:
            if time.monotonic() - self._known_at >= self.settings.poll_seconds:
                try:
                    self._known = list(self.source.everything())
                except CrosspropError as error:
                    log.warning(
                        "the registry cannot be listed", extra={"fields": {"error": str(error)[:300]}}
                    )
                self._known_at = time.monotonic()
            return self._known


def _model_note(model: ModelInfo, slot: Slot | None, name: str | None) -> dict[str, Any]:
    return {
        "model": model.name,
        "property": name,
        "unit": model.unit,
        **{alias: _version_note(model.holder(alias)) for alias in ("champion", "previous", "challenger")},
        "versions": len(model.versions),
        **_served(slot),
    }


def _folder_note(slot: Slot, name: str | None) -> dict[str, Any]:
    info = slot.shown.info
    held = {
        alias: _version_note(info) if alias in info.aliases else None
        for alias in ("champion", "previous", "challenger")
    }
    return {"model": slot.model, "property": name, "unit": info.unit, **held, "versions": 1, **_served(slot)}


def _served(slot: Slot | None) -> Mapping[str, Any]:
    if slot is None:
        return {"served": None, "status": None, "status_note": ""}
    status = slot.status
    version = slot.served.info.version if slot.served else None
    return {"served": version, "status": status.word, "status_note": status.note}


def _version_note(info: VersionInfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    return {
        "version": info.version,
        "aliases": list(info.aliases),
        "method": info.method,
        "holdout_mae": info.holdout_mae,
        "created": info.created.isoformat(timespec="seconds"),
        "commit": info.tags.get("crossprop.git_commit", ""),
        "data_hash": info.tags.get("crossprop.data_hash", ""),
    }
