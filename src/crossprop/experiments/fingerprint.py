"""Content hashes: what a finished cell depends on, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

CODE_THAT_COMPUTES = (
    "data/compositions.py",
    "data/formulas.py",
    "data/splits.py",
    "experiments/blend.py",
    "experiments/inputs.py",
    "experiments/pieces.py",
    "experiments/tasks.py",
    "features",
    "models/elemnet.py",
    "models/fitted.py",
    "models/joint.py",
    "models/regressors.py",
    "models/resnet.py",
    "models/target_transform.py",
    "models/transfer.py",
    "training/batched_job.py",
    "training/descent.py",
    "training/device.py",
    "training/fit.py",
    "training/losses.py",
    "training/metrics.py",
    "training/optimizer.py",
    "tuning",
    "vocabulary.py",
)


def digest(values: Any) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def data_digest(frame: pd.DataFrame) -> str:
    """SHA-256 of a prepared table: formulas, compositions, values and split, in their order."""
    hasher = hashlib.sha256()
    for column in ("formula", "composition", "split"):
        hasher.update("\n".join(frame[column].astype(str)).encode())
        hasher.update(b"\0")
    hasher.update(np.ascontiguousarray(frame["value"].to_numpy(np.float64)).tobytes())
    return hasher.hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 of the syntax trees of the modules that compute a cell; comments and docstrings do not count."""
    root = files("crossprop")
    hasher = hashlib.sha256()
    for name in CODE_THAT_COMPUTES:
        entry = root.joinpath(*name.split("/"))
        modules = [entry] if entry.is_file() else sorted(entry.iterdir(), key=lambda item: item.name)
        for module in modules:
            if module.name.endswith(".py"):
                tree = ast.parse(module.read_text(encoding="utf-8"))
                hasher.update(f"{name}/{module.name}\0{ast.dump(_without_docstrings(tree))}".encode())
    return hasher.hexdigest()


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
