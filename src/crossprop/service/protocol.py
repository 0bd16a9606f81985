"""HTTP connections that may not be held open by saying nothing, or by not listening."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
"""Longest from the opening of a connection, or the first byte of a request, to the end of its headers."""
HEADER_BYTES = 65_536
"""Most bytes of a request's headers, give or take what arrives at once."""
FLUSH_SECONDS = 60.0
"""Longest that a client may take to read what is left of an answer."""


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol, with a bound on the time for headers and for reading an answer.

    Uvicorn itself bounds only the time between two requests. The time for a body is the middleware's matter.
    """

    _deadline: asyncio.TimerHandle | None = None
    _heading = 0
    _flushing = 0.0

    def connection_made(self, transport: Any) -> None:
        """A client connected: it is to say something soon."""
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came in."""
        super().data_received(data)
        if self._deadline is not None and not self.transport.is_closing():
            self._heading += len(data)
            if self._heading > HEADER_BYTES:
                self.send_400_response("Headers are too long.")

    def on_message_begin(self) -> None:
        """The first byte of a request came in."""
        super().on_message_begin()
        if self._deadline is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        """The headers are whole."""
        self._forget_deadline()
        super().on_headers_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while: close, but let a slow reader finish within bounds."""
        unread = self.transport.get_write_buffer_size()
        if unread and not self.transport.is_closing():
            self._flushing += self.timeout_keep_alive
            if self._flushing >= FLUSH_SECONDS:
                self.transport.abort()
                return
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        super().timeout_keep_alive_handler()

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever offers another protocol is answered in this one, which is no news."""

    def _expect_headers(self) -> None:
        self._heading = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
