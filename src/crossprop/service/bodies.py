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
from crossprop.service.settings import Limits

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


def check_size(request: schemas.PredictRequest, limits: Limits) -> None:
    """Refuse a request for more than one request may ask for.

    Raises:
        InvalidRequestError: The message says what is too much of what.
    """
    n, n_properties = len(request.formulas), len(request.properties)
    if n > limits.formulas:
        raise InvalidRequestError(
            f"{n} formulas are more than the {limits.formulas} that one request may hold. Send several requests."
        )
    if n * n_properties > limits.predictions:
        raise InvalidRequestError(
            f"{n} formulas for {n_properties} properties exceed {limits.predictions} predictions. "
            "Send several requests."
        )
    if n * n_properties * request.nearest > limits.neighbours:
        raise InvalidRequestError(
            f"{n} formulas, {n_properties} properties and {request.nearest} neighbours of each are more than "
            f"{limits.neighbours} neighbours. Ask for fewer with 'nearest', or send several requests."
        )


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
