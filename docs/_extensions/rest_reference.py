"""Directive `rest-reference`: every path of the service, from its own OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from reference_sections import section, table


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation, in the document's order."""
    return [(method.upper(), path, told) for path, item in document["paths"].items() for method, told in item.items()]


def operation_lines(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """Text of one operation, in reStructuredText: what it is for, parameters, body, an example, answers."""
    lines = [f"**{operation.get('summary', '')}**", ""]
    lines += [*_rst(operation.get("description", "")).splitlines(), ""]
    for parameter in operation.get("parameters", []):
        told = _rst(parameter.get("description", ""))
        lines.append(f"- ``{parameter['name']}`` (in the {parameter['in']}): {told}")
    lines.append("")
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = _resolved(document, content.get("schema", {}))
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        need = "required" if name in required else f"default {json.dumps(field.get('default'))}"
        told = _rst(field.get("description", ""))
        lines.append(f"- ``{name}`` (in the body, {need}{_bounds(field)}): {told}")
    lines += ["", _rst(operation.get("requestBody", {}).get("description", "")), ""]
    if "example" in content:
        text = json.dumps(content["example"], indent=2, ensure_ascii=False)
        lines += ["Request:", "", ".. code-block:: json", "", *(f"   {line}" for line in text.splitlines()), ""]
    answered = operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {})
    if fields := answer_fields(document, answered.get("schema", {})):
        rows = ((f"``{name}``", _rst(told)) for name, told in fields)
        lines += ["Answer:", "", *table(("field", "meaning"), rows, (45, 55))]
    meanings = [
        (status, "The answer." if status == "200" else _rst(" ".join(answer.get("description", "").split())))
        for status, answer in operation.get("responses", {}).items()
    ]
    return [*lines, *table(("status", "meaning"), meanings, (15, 85))]


def answer_fields(document: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[tuple[str, str]]:
    """Path and description of every field below a schema that holds no further ones."""
    schema = _resolved(document, schema)
    for option in schema.get("anyOf", []):
        if option.get("type") != "null":
            told = schema.get("description", "")
            return answer_fields(document, {**_resolved(document, option), "description": told}, path)
    if schema.get("type") == "array" and _resolved(document, schema["items"]).get("properties"):
        return answer_fields(document, schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        return answer_fields(document, schema["additionalProperties"], f"{path}.<name>")
    if "properties" not in schema:
        return [(path, schema.get("description", ""))] if path else []
    return [
        found
        for name, field in schema["properties"].items()
        for found in answer_fields(document, field, f"{path}.{name}".lstrip("."))
    ]


def _bounds(field: dict[str, Any]) -> str:
    names = {"minimum": "at least", "maximum": "at most", "maxItems": "at most"}
    return "".join(f", {word} {field[key]:,}" for key, word in names.items() if key in field)


def _rst(text: str) -> str:
    """Markdown's code as reStructuredText's."""
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", text)


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    if not reference:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    return found


def full_document() -> dict[str, Any]:
    """The OpenAPI document of a service that asks for keys: what an open one never answers stands in it too."""
    from crossprop.service.app import create_app
    from crossprop.service.auth import ApiKey, Scope
    from crossprop.service.settings import ServiceSettings
    from crossprop.service.sources import FolderSource

    keys = (ApiKey("reader", Scope.READ, "0" * 64),)
    document: dict[str, Any] = create_app(ServiceSettings(keys=keys), FolderSource([])).openapi()
    return document


class RestReference(Directive):
    """One section for every operation."""

    def run(self) -> list[nodes.Node]:
        """Make the sections where the directive stands."""
        document = full_document()
        return [
            section(self, f"{method} {path}", operation_lines(document, operation))
            for method, path, operation in operations(document)
        ]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("rest-reference", RestReference)
    return {"parallel_read_safe": True}
