"""Follows the registry: who is champion is asked every few seconds, and a registry that is gone is borne."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from crossprop.errors import CrosspropError
from crossprop.service.metrics import Metrics
from crossprop.service.shelf import Shelf

log = logging.getLogger("crossprop.service")


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
