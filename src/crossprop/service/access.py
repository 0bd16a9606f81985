"""Who may do what: a key in ``Authorization: Bearer …`` or ``X-API-Key``."""

from __future__ import annotations

from starlette.requests import Request

from crossprop.service.keys import KeyRing, Scope
from crossprop.service.refusals import ForbiddenError, UnauthorizedError


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
