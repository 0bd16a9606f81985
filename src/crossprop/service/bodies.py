"""Bodies of requests: JSON, checked, and refused with a sentence for every place that is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request

from crossprop.service import schemas
from crossprop.service.refusals import BadRequestError, InvalidRequestError, MediaTypeError

_LARGE = 32_768
"""Bytes of a body from which on it is read on a thread."""


def sentences(problems: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with a request's body, place by place."""
    told = [
        f"{'.'.join(str(part)[:50] for part in problem['loc']) or 'the body'}: {problem['msg']}"
        for problem in problems[:5]
    ]
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    return f"The request is not what this operation takes: {'; '.join(told)}{more}. See /docs."


async def read_request(request: Request) -> schemas.PredictRequest:
    """The body, checked.

    Raises:
        RefusalError: It is not said to be JSON, is none, or holds something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise MediaTypeError(
            f"The body is said to be {kind[:100]!r}. Send JSON with 'Content-Type: application/json'."
        )
    body = await request.body()
    if len(body) < _LARGE:
        return _parse(body)
    return await asyncio.to_thread(_parse, body)


def _parse(body: bytes) -> schemas.PredictRequest:
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequestError(
            f"The body is no JSON: {error}. Send an object such as "
            '{"formulas": ["NaCl"], "properties": ["bulkmoduluskv"]}.'
        ) from None
    try:
        return schemas.PredictRequest.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise InvalidRequestError(sentences(problems)) from None
