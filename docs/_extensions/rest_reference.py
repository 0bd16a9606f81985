"""Directive `rest-reference`: every path of the service, from its own OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

METHODS = ("get", "post", "put", "patch", "delete")


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation, in the document's order."""
    return [
        (method.upper(), path, item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]


def operation_lines(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> list[str]:
    """Text of one operation, in reStructuredText: what it is for, parameters, body, an example, answers."""
    lines = [f".. rubric:: {method} {path}", "", operation.get("summary", ""), ""]
    lines += [*operation.get("description", "").splitlines(), ""]
    for parameter in operation.get("parameters", []):
        told = parameter.get("description", "")
        lines.append(f"- ``{parameter['name']}`` (in the {parameter['in']}): {told}")
    lines.append("")
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = _resolved(document, content.get("schema", {}))
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        need = "required" if name in required else f"default {json.dumps(field.get('default'))}"
        lines.append(f"- ``{name}`` (in the body, {need}): {field.get('description', '')}")
    lines.append("")
    for title, example in _examples(content, schema):
        lines += [f"Request{title}:", "", ".. code-block:: json", ""]
        lines += [f"   {line}" for line in json.dumps(example, indent=2, ensure_ascii=False).splitlines()]
        lines.append("")
    lines += [".. list-table::", "   :header-rows: 1", "   :widths: 15 85", ""]
    lines += ["   * - status", "     - meaning"]
    for status, answer in operation.get("responses", {}).items():
        told = " ".join(answer.get("description", "").split())
        lines += [f"   * - {status}", f"     - {told}"]
    return [*lines, ""]


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    if not reference:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    return found


def _examples(content: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, Any]]:
    if "example" in content:
        return [("", content["example"])]
    if "examples" in content:
        named = content["examples"].items()
        return [(f" ({example.get('summary', name)})", example["value"]) for name, example in named]
    return [("", example) for example in schema.get("examples", [])[:1]]


class RestReference(Directive):
    """The whole interface."""

    def run(self) -> list[nodes.Node]:
        """Parse the generated text where the directive stands."""
        from crossprop.service.app import create_app
        from crossprop.service.settings import ServiceSettings
        from crossprop.service.sources import FolderSource

        document = create_app(ServiceSettings(), FolderSource([])).openapi()
        lines: list[str] = []
        for method, path, operation in operations(document):
            lines += operation_lines(document, method, path, operation)
        node = nodes.container()
        self.state.nested_parse(StringList(lines, source="openapi"), 0, node)
        return [node]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("rest-reference", RestReference)
    return {"parallel_read_safe": True}
