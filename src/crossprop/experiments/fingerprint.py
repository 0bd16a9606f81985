"""Content hashes: what a finished cell depends on, and nothing else."""

import ast
import hashlib
import importlib.metadata
import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from crossprop.data.splits import together_in

# Modules that compute results; everything they import from crossprop is part of the fingerprint.
ROOTS = ("experiments.tasks", "experiments.blend")
OF_NETWORKS = ("experiments.pretrain",)  # the same for source networks
NOT_COMPUTING = {"config", "errors", "io", "paths"}  # their code changes no number: values are hashed


def digest(values: Any) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def data_digest(frame: pd.DataFrame) -> str:
    """SHA-256 of a prepared table: formulas, compositions (or groups), values and split, in their order."""
    hasher = hashlib.sha256()
    for column in ("formula", together_in(frame), "split"):
        hasher.update("\n".join(frame[column].astype(str)).encode())
        hasher.update(b"\0")
    hasher.update(np.ascontiguousarray(frame["value"].to_numpy(np.float64)).tobytes())
    return hasher.hexdigest()


@cache  # asked for by every cell
def package_versions(*packages: str) -> dict[str, str]:
    """The versions of those packages that are installed."""
    found = {package: [*importlib.metadata.distributions(name=package)][:1] for package in packages}
    return {package: one.version for package, ones in found.items() for one in ones}


@cache
def code_digest(roots: tuple[str, ...] = ROOTS) -> str:
    """SHA-256 of the syntax trees of the modules that compute a result; comments and docstrings do not count."""
    hasher = hashlib.sha256()
    for name, tree in sorted(modules_that_compute(roots).items()):
        hasher.update(f"{name}\0{ast.dump(_without_docstrings(tree))}".encode())
    return hasher.hexdigest()


def modules_that_compute(roots: tuple[str, ...] = ROOTS) -> dict[str, ast.Module]:
    """The syntax trees of the modules of crossprop that ``roots`` import, directly or not, by name."""
    found: dict[str, ast.Module] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        file = files("crossprop").joinpath(f"{name.replace('.', '/')}.py")
        if name in found or name in NOT_COMPUTING or not file.is_file():
            continue
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(found[name]):
            imported: list[str] = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                imported = [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
            waiting += [module.removeprefix("crossprop.") for module in imported if module.startswith("crossprop.")]
    return found


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                statement
                for statement in body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]
    return tree
