"""Directive `configuration-reference`: every key of params.yaml, from the models that read it."""

from __future__ import annotations

import inspect
import re
import types
import typing
from enum import Enum
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from pydantic import BaseModel
from reference_sections import section, table

DEFAULTS = {"StudyConfig.elemnet_sources": "all of ``sources``"}
"""Defaults that a validator fills in, which the models cannot tell."""

HOLDS = {"StudyConfig.representations": "list of elemental_fractions, physical_attributes"}
"""What a validator narrows, which the types cannot tell."""

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def places(
    root: type[BaseModel], path: str = "", found: dict[type[BaseModel], list[str]] | None = None
) -> list[tuple[type[BaseModel], list[str]]]:
    """The model and every model below it, each once with all its places in the file, in their order."""
    found = {} if found is None else found
    known = found.setdefault(root, [])
    if path not in known:
        known.append(path)
    for name, field in root.model_fields.items():
        for model, within in _models(field.annotation):
            places(model, f"{path}.{name}{within}".lstrip("."), found)
    return list(found.items())


def rows(model: type[BaseModel]) -> list[tuple[str, str, str, str]]:
    """Name, what it may hold, default and meaning of every key of one section."""
    told = {name: text for base in reversed(model.__mro__) for name, text in attribute_texts(base).items()}
    return [
        (
            name,
            HOLDS.get(f"{model.__name__}.{name}", _shown(field.annotation) + _bounds(field.metadata)),
            DEFAULTS.get(f"{model.__name__}.{name}", _default(field)),
            told.get(name, field.description or ""),
        )
        for name, field in model.model_fields.items()
    ]


def attribute_texts(model: type[BaseModel]) -> dict[str, str]:
    """Texts of the docstring's part `Attributes:` by attribute."""
    doc = inspect.getdoc(model) or ""
    _, _, part = doc.partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", part, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _models(annotation: Any) -> list[tuple[type[BaseModel], str]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [(annotation, "")]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return [(model, f".<name>{within}") for model, within in _models(arguments[1])]
    return [found for argument in arguments for found in _models(argument)]


def _shown(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _shown(arguments[0])
    if origin is typing.Literal:
        return " or ".join(str(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_shown(argument) for argument in arguments)
    if origin in (tuple, list):
        return f"list of {_shown(arguments[0])}"
    if origin is not None and len(arguments) == 2:
        return f"mapping of {_shown(arguments[0])} to {_shown(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(str(member.value) for member in annotation)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section, see below"
    names = {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "true or false",
        "NoneType": "null",
    }
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, name)


def _bounds(metadata: list[Any]) -> str:
    told = [
        f"{word} {getattr(bound, name):g}"
        for bound in metadata
        for name, word in _BOUNDS.items()
        if getattr(bound, name, None) is not None
    ]
    return "".join(f", {bound}" for bound in told)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, tuple | list):
        return ", ".join(str(getattr(item, "value", item)) for item in value) or "empty"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(getattr(value, "value", value)) if value not in ("", {}) else "empty"


class ConfigurationReference(Directive):
    """One section for every model, with its keys."""

    def run(self) -> list[nodes.Node]:
        """Make the sections where the directive stands."""
        from crossprop.config import Params

        found: list[nodes.Node] = []
        for model, paths in places(Params):
            title = ", ".join(paths) if paths != [""] else "(top level)"
            summary = (inspect.getdoc(model) or "").partition("\n\nAttributes:")[0]
            keys = [(f"``{key}``", *further) for key, *further in rows(model)]
            lines = [*summary.splitlines(), ""]
            lines += table(("key", "holds", "default", "meaning"), keys, (22, 26, 16, 36))
            found.append(section(self, title, lines))
        return found


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("configuration-reference", ConfigurationReference)
    return {"parallel_read_safe": True}
