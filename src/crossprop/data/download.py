"""One resumable HTTP transfer into a ``.part`` file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requests import Response

BASE_URL = "https://raw.githubusercontent.com"
"""Public address of ``<owner>/<repo>/<commit>/<path>``."""

_CHUNK = 1 << 14
_TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two chunks


class TransferError(Exception):
    """A transfer failed; ``final`` where trying again cannot help."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class Download:
    """A file at ``url`` that grows in ``part``; ``tell(received, state)`` hears of it."""

    url: str
    part: Path
    tell: Callable[[int, str], None]

    def run(self, size: int | None) -> None:
        """Fetch what ``part`` does not hold yet.

        Args:
            size: Bytes of the whole file, where known; a larger ``part`` is thrown away.

        Raises:
            TransferError: The server refused, or the connection broke; ``part`` keeps what arrived.
        """
        import requests  # imported late: the catalogue is read without it

        have = self.part.stat().st_size if self.part.is_file() else 0
        if size is not None and have > size:
            self.part.unlink()
            have = 0
        if size is not None and have == size:
            return  # whole already; the caller verifies it
        headers = {"Accept-Encoding": "identity", "User-Agent": "crossprop"}
        if have:
            headers["Range"] = f"bytes={have}-"
        self.tell(have, "retrying" if have else "downloading")
        try:
            with requests.get(self.url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                self._receive(response, have)
        except requests.RequestException as error:
            raise TransferError(f"the connection failed ({type(error).__name__}: {error})") from None

    def _receive(self, response: Response, have: int) -> None:
        """Append the answer's body, or start anew where the server sends the whole file."""
        status = response.status_code
        if status == 416:  # nothing beyond what we have: whole, or of another file
            return
        if status == 404:
            raise TransferError("the server has no such file (404)", final=True)
        if status not in (200, 206):
            hopeless = 400 <= status < 500 and status not in (408, 429)
            raise TransferError(f"the server answered {status}", final=hopeless)
        received = have if status == 206 else 0
        length = response.headers.get("Content-Length")
        expected = received + int(length) if length is not None else None
        with self.part.open("ab" if status == 206 else "wb") as stream:
            for chunk in response.iter_content(_CHUNK):
                stream.write(chunk)
                received += len(chunk)
                self.tell(received, "downloading")
        if expected is not None and received < expected:
            raise TransferError(f"the connection closed after {received:,} of {expected:,} bytes")
