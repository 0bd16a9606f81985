"""Directive `cli-reference`: every command with its arguments and options, from the command itself."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from reference_sections import section, table


def commands(command: Any, words: tuple[str, ...] = ("crossprop",)) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it, in the order of `--help`."""
    further = getattr(command, "commands", {})
    for name, child in further.items():
        yield from commands(child, (*words, name))
    if not further:
        yield " ".join(words), command


def arguments(command: Any) -> list[Any]:
    """What is given by its place."""
    return [p for p in command.params if p.param_type_name == "argument"]


def options(command: Any) -> list[Any]:
    """What is given by its name."""
    return [p for p in command.params if p.param_type_name == "option" and not p.hidden]


def usage(words: str, command: Any) -> str:
    """How the command is called; what may be left out stands in brackets."""
    parts = [words]
    parts += [f"{_named(o)} {_value(o)}" for o in options(command) if o.required]
    parts += ["[OPTIONS]"] if any(not o.required for o in options(command)) else []
    for argument in arguments(command):
        name = _value(argument) + ("..." if argument.nargs == -1 else "")
        parts.append(name if argument.required else f"[{name}]")
    return " ".join(parts)


def rows(command: Any) -> list[tuple[str, str]]:
    """Each argument and option as it is written, and what it means."""
    found = [(f"``{_value(argument)}``", _meaning(argument)) for argument in arguments(command)]
    for option in options(command):
        value = "" if option.is_flag else f" {_value(option)}"
        names = ", ".join(f"``{name}{value}``" for name in (*option.opts, *option.secondary_opts))
        found.append((names, _meaning(option)))
    return found


def _named(option: Any) -> str:
    name: str = next(name for name in option.opts if name.startswith("--"))
    return name


def _value(parameter: Any) -> str:
    if parameter.param_type_name == "argument" or parameter.metavar:
        return (parameter.metavar or parameter.opts[0]).upper()
    kind = parameter.type_descriptor.annotation
    kind = (typing.get_args(kind) or (kind,))[0]
    if issubclass(kind, Enum):
        return "|".join(str(member.value) for member in kind)
    return {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def _meaning(parameter: Any) -> str:
    told = _literal(" ".join((parameter.help or "").split()))
    told += " Required." if parameter.required else ""
    shown, default = parameter.show_default, parameter.default
    if isinstance(shown, str):
        return f"{told} Default: {shown.strip('()')}."
    if parameter.param_type_name == "option" and parameter.secondary_opts:
        default = (parameter.opts if default else parameter.secondary_opts)[0]
    elif isinstance(default, Enum | bool):
        default = default.value if isinstance(default, Enum) else None
    elif isinstance(default, float):
        default = f"{default:g}"
    return f"{told} Default: ``{default}``." if shown and default not in (None, "", ()) else told


def _paragraphs(command: Any) -> list[str]:
    text = inspect.cleandoc(command.help or "").replace("\f", "").replace("\b", "")
    return _literal(re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", text)).splitlines()


def _literal(text: str) -> str:
    """Options as code, else two dashes would become a long one."""
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"``\1``", text)


class CliReference(Directive):
    """One section for every command."""

    def run(self) -> list[nodes.Node]:
        """Make the sections where the directive stands."""
        import typer.main

        from crossprop.cli import app

        found: list[nodes.Node] = []
        for words, command in commands(typer.main.get_command(app)):
            lines = [".. code-block:: console", "", f"   $ {usage(words, command)}", ""]
            lines += [*_paragraphs(command), ""]
            lines += table(("argument or option", "meaning"), rows(command), (35, 65))
            found.append(section(self, words, lines))
        return found


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("cli-reference", CliReference)
    return {"parallel_read_safe": True}
