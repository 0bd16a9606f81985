"""Configuration: ``params.yaml`` read in one place into frozen models that refuse what they do not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from crossprop.configuration.search import ComputeConfig, Range, RegressorSpace, SearchConfig, Space
from crossprop.configuration.section import Section
from crossprop.configuration.study import StudyConfig
from crossprop.configuration.training import Budget, Fidelity, LearningCurve, Recipe
from crossprop.errors import ConfigError

__all__ = [
    "PARAMS_FILE",
    "Budget",
    "ComputeConfig",
    "Fidelity",
    "LearningCurve",
    "Params",
    "Range",
    "Recipe",
    "RegressorSpace",
    "SearchConfig",
    "Space",
    "StudyConfig",
    "load_params",
    "parse_params",
]

PARAMS_FILE = Path("params.yaml")


class Params(Section):
    """The whole of ``params.yaml``.

    Attributes:
        study: Which data, which cells, under which protocol and budgets.
        search: What tuning may try.
        compute: Where the work runs; changes no result but last digits.
    """

    study: StudyConfig
    search: SearchConfig
    compute: ComputeConfig = ComputeConfig()


def parse_params(values: Any, origin: str = "params") -> Params:
    """Validate the plain values of a configuration.

    Raises:
        ConfigError: With the path of every offending key, what it holds and why it is refused.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{origin} holds {type(values).__name__}, not a mapping with the key 'study'.")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ConfigError(f"{origin} is refused:\n" + "\n".join(f"  {line}" for line in lines)) from None


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and validate ``params.yaml``.

    Raises:
        ConfigError: The file is missing, is no YAML, or holds what :func:`parse_params` refuses.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing. Run from the project's root, where dvc.yaml stands.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}. Mend it, or restore it with git.") from None
    return parse_params(values, origin=str(path))


def _explain(problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"]) or "(top level)"
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key. Remove it or correct its spelling."
    if problem["type"] == "missing":
        return f"{path}: missing. Add it."
    message = problem["msg"].removeprefix("Value error, ")
    received = problem["input"]
    shown = "" if isinstance(received, dict) else f" (received {received!r})"
    return f"{path}: {message}{shown}"
