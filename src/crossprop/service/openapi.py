"""The OpenAPI document: what FastAPI knows of the routes, and what it cannot know."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
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


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8888; padding-top: 1rem; }
code, pre { font: 0.875rem/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8888; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.75rem 0.3rem 0; border-bottom: 1px solid #8884; }
.method { font-weight: 700; padding: 0.1rem 0.5rem; border: 1px solid currentColor; border-radius: 4px; }
summary { cursor: pointer; padding: 0.25rem 0; }
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """A page of HTML: operations with their parameters, bodies, answers and examples, then the schemas."""
    info = document["info"]
    operations = [(p, m, o) for p, methods in document["paths"].items() for m, o in methods.items()]
    contents = "".join(
        f'<li><a href="#{_anchor(m, p)}"><code>{m.upper()} {escape(p)}</code></a> {escape(o.get("summary", ""))}</li>'
        for p, m, o in operations
    )
    schemas = document.get("components", {}).get("schemas", {})
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(info["title"])} API</title><link rel="stylesheet" href="docs.css"></head><body><main>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>{_paragraphs(info.get('description', ''))}"
        f'<p><a href="./">The page</a>, <a href="openapi.json">this description as OpenAPI</a></p>'
        f"<ul>{contents}</ul>{''.join(_operation(*given, document) for given in operations)}"
        f"<h2>Schemas</h2>{''.join(_schema(name, schema) for name, schema in schemas.items())}"
        "</main></body></html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    parts = [
        f'<h2 id="{_anchor(method, path)}"><span class="method">{method.upper()}</span>',
        f" <code>{escape(path)}</code></h2>",
        f"<p><strong>{escape(operation.get('summary', ''))}</strong></p>",
        _paragraphs(operation.get("description", "")),
    ]
    rows = [
        (p["name"], p["in"], _type(p["schema"]), p.get("description", ""))
        for p in operation.get("parameters", ())
    ]
    parts.append(_table(("parameter", "in", "type", ""), rows))
    body = operation.get("requestBody", {})
    for content in body.get("content", {}).values():
        parts.append(f"<p>Body: {_type(content['schema'])}. {escape(body.get('description', ''))}</p>")
        for example in content.get("examples", {}).values():
            command = f"curl -X {method.upper()} http://127.0.0.1:8000{path} -H 'Content-Type: application/json' \\\n"
            parts.append(
                f"<p>{escape(example['summary'])}:</p>"
                f"<pre><code>{escape(command)}  -d '{escape(json.dumps(example['value']))}'</code></pre>"
            )
    answers = []
    for status, answer in operation.get("responses", {}).items():
        given: Mapping[str, Any] = next(iter(answer.get("content", {}).values()), {})
        example = given.get("example")
        shown = (
            f"<details><summary>example</summary><pre><code>{_pretty(example)}</code></pre></details>"
            if example
            else ""
        )
        answers.append(
            (str(status), _type(given.get("schema", {})), _text(answer.get("description", "")) + shown)
        )
    parts.append(_table(("answer", "type", ""), answers, escaped=True))
    return "".join(parts)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = [
        (
            field,
            _type(given),
            "yes" if field in required else "",
            _limits(given) + given.get("description", ""),
        )
        for field, given in schema.get("properties", {}).items()
    ]
    return (
        f'<h3 id="schema-{escape(name)}"><code>{escape(name)}</code></h3>{_paragraphs(schema.get("description", ""))}'
        + _table(("field", "type", "required", ""), rows)
    )


def _type(schema: Mapping[str, Any]) -> str:
    """The type of a value, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(v))}</code>" for v in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and "additionalProperties" in schema:
        return f"object of {_type(schema['additionalProperties'])}"
    return escape(str(schema.get("type", "anything")))


def _limits(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "maximum": "at most", "minItems": "at least", "maxItems": "at most"}
    told = [f"{word} {schema[key]:,}" for key, word in words.items() if key in schema]
    if "default" in schema:
        told.append(f"default {schema['default']}")
    return f"({', '.join(told)}) " if told else ""


def _table(head: tuple[str, ...], rows: list[Any], escaped: bool = False) -> str:
    if not rows:
        return ""
    cells = "".join(
        "<tr>"
        + "".join(f"<td>{v if escaped or i in (1, 2) else _text(v)}</td>" for i, v in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{''.join(f'<th>{h}</th>' for h in head)}</tr></thead><tbody>{cells}</tbody></table>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(p.strip())}</p>" for p in text.split("\n\n") if p.strip())


def _text(text: str) -> str:
    """A text with words between backticks set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _pretty(example: object) -> str:
    return escape(json.dumps(example, indent=2, ensure_ascii=False))


def _anchor(method: str, path: str) -> str:
    return escape(method + path.replace("/", "-").replace("{", "").replace("}", ""))
