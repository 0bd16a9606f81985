"""The OpenAPI document: what FastAPI knows of the routes, and what it cannot know."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from crossprop.service import schemas
from crossprop.service.settings import Limits, ServiceSettings

DESCRIPTION = """Predictions of materials properties from chemical formulas, by the models that were promoted.

Every prediction carries an interval with a stated coverage and says whether the composition lies within what its model
has learnt. An answer that is an error has the form `{"error": {"type": "…", "message": "…"}}`; the message says what to
do next.
"""
_MEANING = {
    400: "The body is no JSON.",
    401: "The key is missing or unknown.",
    403: "The key, or a service without keys, does not allow this.",
    404: "There is no such property.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is not said to be JSON, or said to be compressed.",
    422: "The request holds something that this operation does not take, or too much of it.",
    429: "Too many requests are waiting; `Retry-After` says when to come back.",
    503: "Not there yet, or not done in time; `Retry-After` says when to come back.",
}
_MESSAGES = {
    400: (
        "BadRequestError",
        "The body is no JSON: expected value at line 1 column 1. Send an object such as …",
    ),
    401: ("UnauthorizedError", "A valid API key is needed: send 'Authorization: Bearer <key>'."),
    403: ("ForbiddenError", "The key of alice may read only. This needs one of scope 'admin'."),
    404: ("UnknownNameError", "'hardness' is no property that is served. There are: bulkmoduluskv, deltae."),
    408: ("SlowBodyError", "The body did not arrive within 15 seconds. Send it faster, or in parts."),
    413: ("TooLargeError", "The body holds 10000000 bytes or more, and 4194304 are the most that is read."),
    415: ("MediaTypeError", "The body is said to be 'text/plain'. Send JSON."),
    422: ("InvalidRequestError", "12000 formulas are more than the 10000 that one request may hold."),
    429: ("BusyError", "64 requests are waiting already. Send this one again in a moment."),
    503: ("UnavailableError", "bulkmoduluskv is still being loaded. Ask again in a few seconds."),
}
_LATER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
METRICS_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
_EXAMPLE_ANSWER = {
    "results": [
        {
            "formula": "Fe2O3",
            "error": None,
            "predictions": {
                "bulkmoduluskv": {
                    "value": 137.7,
                    "lower": 86.8,
                    "upper": 188.5,
                    "in_domain": True,
                    "note": "",
                    "nearest": [{"formula": "FeO2", "value": 98.6, "distance": 0.267}],
                }
            },
        },
        {
            "formula": "Fe2O3!",
            "error": {"type": "FormulaError", "message": "'Fe2O3!' is no chemical formula: …"},
            "predictions": {},
        },
    ],
    "models": {
        "bulkmoduluskv": {
            "model": "jarvis.bulkmoduluskv",
            "version": "1",
            "method": "blend",
            "unit": "GPa",
            "coverage": 0.9,
        }
    },
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of an operation that are errors, as FastAPI takes them."""
    answers: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kind, message = _MESSAGES[status]
        example = {"error": {"type": kind, "message": message}}
        answers[status] = {
            "model": schemas.ErrorAnswer,
            "description": _MEANING[status],
            "content": {"application/json": {"example": example}},
        }
        if status in (429, 503):
            answers[status]["headers"] = _LATER
    return answers


def predict_extra(limits: Limits) -> dict[str, Any]:
    """What the document says of the body of ``/v1/predict``, which the service reads itself."""
    examples = {
        "one": {
            "summary": "One formula, one property",
            "value": {"formulas": ["Fe2O3"], "properties": ["bulkmoduluskv"]},
        },
        "several": {
            "summary": "Several of both, with the nearest training compositions",
            "value": {
                "formulas": ["Fe2O3", "NaCl", "Ca(Al2[SiO4]2)"],
                "properties": ["bulkmoduluskv", "deltae"],
                "nearest": 3,
            },
        },
    }
    schema = {"$ref": "#/components/schemas/PredictRequest"}
    body = {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
    answer = {"200": {"content": {"application/json": {"example": _EXAMPLE_ANSWER}}}}
    more = f"At most {limits.formulas:,} formulas, {limits.predictions:,} predictions, {limits.body_bytes:,} bytes."
    return {"requestBody": {**body, "description": more}, "responses": answer}


def document(app: FastAPI, settings: ServiceSettings) -> dict[str, Any]:
    """The OpenAPI document of an application with all its routes."""
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    parts = made.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        parts.pop(unused, None)
    request = schemas.PredictRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    request["properties"]["formulas"]["maxItems"] = settings.limits.formulas
    parts["PredictRequest"] = request
    if not settings.keys:
        for operations in made["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("401", None)
    else:
        made["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        for path, operations in made["paths"].items():
            if path.startswith("/v1/") or (path == "/metrics" and not settings.open_metrics):
                for operation in operations.values():
                    operation["security"] = [{"bearer": []}, {"header": []}]
    return made
