"""API keys: kept as digests, compared in constant time."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from crossprop.errors import ConfigError
from crossprop.service.http_errors import HttpError

ENVIRONMENT = "CROSSPROP_API_KEYS"  # lines of keys, separated by line breaks or commas
_LINE = re.compile(r"(?P<owner>[\w.@-]{1,64})\s+(?P<scope>read|admin)\s+sha256:(?P<digest>[0-9a-f]{64})", re.ASCII)
_BEARER = HTTPBearer(scheme_name="bearer", auto_error=False)
_HEADER = APIKeyHeader(name="X-API-Key", scheme_name="header", auto_error=False)


class Scope(StrEnum):
    """What a key allows: to read, or to ask the service to poll the registry, too."""

    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True)
class ApiKey:
    """One key: its owner, for the access log, what it allows, and its SHA-256 digest, hexadecimal."""

    owner: str
    scope: Scope
    digest: str

    @property
    def line(self) -> str:
        """The key's line in a file of keys."""
        return f"{self.owner} {self.scope} sha256:{self.digest}"


def new_key(owner: str, scope: Scope) -> tuple[str, ApiKey]:
    """A new random key: the secret for its owner, and what the service keeps of it."""
    secret = f"xp_{secrets.token_urlsafe(32)}"
    key = ApiKey(owner, scope, _digest(secret))
    if not _LINE.fullmatch(key.line):
        raise ConfigError(f"{owner!r} is no name for a key's owner: use up to 64 letters, digits and . _ @ -")
    return secret, key


def read_keys(file: Path | None) -> tuple[ApiKey, ...]:
    """Keys of a file, or else of the environment variable ``CROSSPROP_API_KEYS``; none if there is neither.

    A file or variable without a key is refused: a service that was meant to be closed must not start open.
    """
    where, given = str(file or ENVIRONMENT), os.environ.get(ENVIRONMENT, "")
    try:
        text = file.read_text("utf-8") if file else given.replace(",", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file of API keys cannot be read: {error}. Correct --api-keys.") from error
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:  # the line is not repeated: it may hold the key itself
            raise ConfigError(f"{where}, line {number}, is not a line of 'crossprop api-key NAME'. Correct it.")
        if match["digest"] in keys:
            raise ConfigError(f"{where} holds a key twice. Every owner needs a key of their own.")
        keys[match["digest"]] = ApiKey(match["owner"], Scope(match["scope"]), match["digest"])
    if not keys and (file or given.strip()):
        raise ConfigError(f"{where} holds no API key. Add a line of 'crossprop api-key NAME'.")
    return tuple(keys.values())


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def key_check(keys: Sequence[ApiKey], scope: Scope) -> Sequence[Any]:
    """Dependencies of an operation that needs a scope; without keys ``read`` is open and ``admin`` is refused."""

    async def closed() -> None:
        raise HttpError("ForbiddenError", "This service has no API keys. Start it with --api-keys FILE.")

    async def check(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        header: Annotated[str | None, Depends(_HEADER)],
    ) -> None:
        digest = _digest(bearer.credentials if bearer else (header or "").strip())
        found = [key for key in keys if hmac.compare_digest(digest, key.digest)]  # all are compared
        if not found:
            message = "A valid API key is needed: send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'."
            raise HttpError("UnauthorizedError", message)
        request.scope["crossprop.key"] = found[0].owner
        if scope is Scope.ADMIN and found[0].scope is not Scope.ADMIN:
            message = f"The key of {found[0].owner} is for reading only. This needs the scope 'admin'."
            raise HttpError("ForbiddenError", message)

    if keys:
        return [Depends(check)]
    return [Depends(closed)] if scope is Scope.ADMIN else []
