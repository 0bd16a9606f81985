"""API keys: kept as digests, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from starlette.requests import Request

from crossprop.errors import ConfigError
from crossprop.service.http_errors import ForbiddenError, UnauthorizedError

ENVIRONMENT = "CROSSPROP_API_KEYS"
"""Variable that holds lines of keys (separated by line breaks or commas)."""

_LINE = re.compile(r"(?P<owner>[\w.@-]{1,64})\s+(?P<scope>\w+)\s+sha256:(?P<digest>[0-9a-f]{64})", re.ASCII)


class Scope(StrEnum):
    """What a key allows."""

    READ = "read"
    """Predictions and all that is shown."""
    ADMIN = "admin"
    """The same, and asking the service to look at the registry now."""


@dataclass(frozen=True)
class ApiKey:
    """One key.

    Attributes:
        owner: Whose it is; stands in the access log.
        scope: What it allows.
        digest: SHA-256 of the key, hexadecimal.
    """

    owner: str
    scope: Scope
    digest: str

    @property
    def line(self) -> str:
        """The key's line in a file of keys."""
        return f"{self.owner} {self.scope} sha256:{self.digest}"


@dataclass(frozen=True)
class KeyRing:
    """The keys that a service knows; without any it is open to everybody for reading."""

    keys: tuple[ApiKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, secret: str) -> ApiKey | None:
        """The key that a caller holds; every one is compared, in constant time."""
        digest = _digest(secret)
        found = None
        for key in self.keys:
            if hmac.compare_digest(digest, key.digest):
                found = key
        return found


def new_key(owner: str, scope: Scope) -> tuple[str, ApiKey]:
    """A new random key: the secret for its owner, and what the service keeps of it.

    Raises:
        ConfigError: The owner's name cannot stand in a file of keys.
    """
    secret = f"xp_{secrets.token_urlsafe(32)}"
    key = ApiKey(owner, scope, _digest(secret))
    if not _LINE.fullmatch(key.line):
        raise ConfigError(f"{owner!r} is no name for a key's owner: use up to 64 letters, digits and . _ @ -")
    return secret, key


def read_keys(file: Path | None) -> KeyRing:
    """Keys of a file, or else of the environment variable ``CROSSPROP_API_KEYS``; none if there is neither.

    Raises:
        ConfigError: A line is none of ``<owner> <read|admin> sha256:<digest>``, the file cannot be read, or there
            is a file or a text without any key (a service that was meant to be closed must not start open; an
            empty variable counts as none).
    """
    if file is None:
        text, where = os.environ.get(ENVIRONMENT, "").replace(",", "\n"), ENVIRONMENT
    else:
        try:
            text, where = file.read_text(encoding="utf-8"), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The file of API keys {file} cannot be read: {error}. Correct --api-keys."
            ) from error
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    keys = tuple(_parse(line, f"{where}, line {n}") for n, line in lines if line and not line.startswith("#"))
    if not keys and (file is not None or text.strip()):
        raise ConfigError(
            f"{where} holds no API key. Make one with 'crossprop api-key NAME' and add its line."
        )
    if len({key.digest for key in keys}) < len(keys):
        raise ConfigError(f"{where} holds a key twice. Every owner needs one of their own.")
    return KeyRing(keys)


def _parse(line: str, where: str) -> ApiKey:
    match = _LINE.fullmatch(line)
    if match is None or match["scope"] not in set(Scope):
        # The line is not repeated: somebody may have put the key itself there.
        raise ConfigError(
            f"{where} is no '<owner> <read|admin> sha256:<digest>'. Make such a line with 'crossprop api-key NAME'."
        )
    return ApiKey(match["owner"], Scope(match["scope"]), match["digest"])


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def require(keys: KeyRing, scope: Scope, request: Request) -> None:
    """Refuse a caller who may not do this.

    Args:
        keys: Keys of the service; without any it is open to everybody for reading, and for nothing else.
        scope: What is needed.
        request: The request; the owner of its key is noted for the log.

    Raises:
        UnauthorizedError: The key is missing or unknown.
        ForbiddenError: The key, or a service without keys, does not allow it.
    """
    if not keys:
        if scope is Scope.ADMIN:
            raise ForbiddenError(
                "This service has no API keys and takes no orders. Start it with --api-keys FILE."
            )
        return
    key = keys.find(_secret(request))
    if key is None:
        raise UnauthorizedError(
            "A valid API key is needed: send 'Authorization: Bearer <key>' or 'X-API-Key: <key>'. Ask whoever runs "
            "this service for one."
        )
    request.scope["crossprop.key"] = key.owner
    if scope is Scope.ADMIN and key.scope is not Scope.ADMIN:
        raise ForbiddenError(f"The key of {key.owner} may read only. This needs one of scope 'admin'.")


def _secret(request: Request) -> str:
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret:
        return secret.strip()
    return request.headers.get("x-api-key", "").strip()
