"""Bodies of requests: JSON, checked, and refused with a sentence for every place that is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from crossprop.service import schemas
from crossprop.service.http_errors import (
    BadRequestError,
    HungUpError,
    InvalidRequestError,
    MediaTypeError,
    UnsupportedCodingError,
)
from crossprop.service.settings import Limits

_LARGE = 32_768
"""Bytes of a body from which on it is read on a thread."""

_MARK = b"\xef\xbb\xbf"
"""What some editors and shells put before UTF-8."""

_EXAMPLE = '{"formulas": ["NaCl"], "properties": ["bulkmoduluskv"]}'
_FIELDS = tuple(schemas.PredictRequest.model_fields)
_WORDS = {
    "missing": "is missing",
    "extra_forbidden": f"is not known here (known are {', '.join(_FIELDS)})",
    "list_type": 'must be a list, such as ["..."]',
    "too_short": "must not be empty",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "model_type": f"must be an object such as {_EXAMPLE}",
    "model_attributes_type": f"must be an object such as {_EXAMPLE}",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a whole number",
    "value_error": "must be a whole number",
}
"""What is said of an error that the checking of types finds; others say it well enough themselves."""


def sentences(problems: Sequence[Mapping[str, Any]]) -> str:
    """What is wrong with a request's body, place by place."""
    told = [
        f"{'.'.join(str(part)[:50] for part in problem['loc']) or 'the body'} {_said(problem)}"
        for problem in problems[:5]
    ]
    more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
    return f"The request is not what this operation takes: {'; '.join(told)}{more}. See /docs."


def _said(problem: Mapping[str, Any]) -> str:
    text = str(problem["msg"])
    return _WORDS.get(problem["type"], f"{text[:1].lower()}{text[1:]}".replace("input should", "should"))


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
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise MediaTypeError(
            f"The body is said to be {kind.strip().lower()[:100]!r}. Send JSON with 'Content-Type: application/json'."
        )
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedCodingError(
            f"The body is said to be compressed ({coding[:50]!r}), which is not read here. Send it as it is."
        )
    try:
        body = await request.body()
    except ClientDisconnect:
        raise HungUpError("The caller hung up before the body was there.") from None
    if len(body) < _LARGE:
        return _parse(body, parameters)
    return await asyncio.to_thread(_parse, body, parameters)


def _parse(body: bytes, parameters: str) -> schemas.PredictRequest:
    try:
        values = from_json(body.removeprefix(_MARK), allow_inf_nan=False)
    except ValueError as error:
        other = parameters.strip()[:50] if "utf-8" not in parameters.lower() else ""
        said = f" JSON is UTF-8, and the body is said to have {other!r}." if other else ""
        raise BadRequestError(
            f"The body is no JSON: {error}.{said} Send an object such as {_EXAMPLE}."
        ) from None
    if isinstance(values, dict):
        _refuse_repeated(body)
    try:
        return schemas.PredictRequest.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise InvalidRequestError(sentences(problems)) from None


def _refuse_repeated(body: bytes) -> None:
    """Refuse an object with a field twice: one of the two would be lost, and nobody would be told."""
    if not any(body.count(f'"{name}"'.encode()) > 1 for name in _FIELDS):
        return

    def named_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        repeated = next((name for name in _FIELDS if names.count(name) > 1), None)
        if repeated:
            raise InvalidRequestError(f"The body holds {repeated!r} twice. Put all of it into one list.")
        return dict(pairs)

    text = body.removeprefix(_MARK).decode()
    json.loads(text, object_pairs_hook=named_once, parse_int=str, parse_float=str)
