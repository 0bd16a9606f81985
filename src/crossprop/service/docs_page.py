"""The API's description as a page: made of the OpenAPI document, without scripts, without anything from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from typing import Any

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
