"""Which packages a registered model needs, in the versions it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossprop.tracking.provenance import installed_versions
from crossprop.vocabulary import Family, Method, Representation

_ALWAYS = ("mlflow", "numpy", "pandas", "pyarrow", "scipy")
"""With what reads the evidence and finds the nearest compositions."""
_REGRESSORS = ("scikit-learn", "skops")
_NETWORKS = {"tensorflow": ("keras", "tensorflow"), "jax": ("keras", "jax"), "torch": ("keras", "torch")}
_ATTRIBUTES = ("matminer", "pymatgen")
_FROM_NETWORKS = (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES)
_WITH_ATTRIBUTES = (
    Representation.PHYSICAL_ATTRIBUTES,
    Representation.COMBINED,
    Representation.PREDICTED_SOURCES,
)


def folder_requirements(folder: Path, keras_backend: str = "tensorflow") -> list[str]:
    """Pinned requirements of a saved ensemble, or of all ensembles that a saved blend is made of."""
    info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    parts = [
        json.loads((folder / p / "model.json").read_text(encoding="utf-8")) for p in info.get("parts", ())
    ]
    lines = [model_requirements(part, keras_backend) for part in parts or [info]]
    return list(dict.fromkeys(line for part in lines for line in part))


def model_requirements(info: Mapping[str, Any], keras_backend: str = "tensorflow") -> list[str]:
    """Pinned requirements of a saved model; crossprop's own code travels inside the model.

    Args:
        info: Content of ``model.json``.
        keras_backend: Backend that its networks run on.

    Returns:
        Lines such as ``numpy==2.4.6``, of what is installed here.
    """
    method = Method(info["method"])
    names = list(_ALWAYS)
    if method.family is Family.REGRESSOR:
        names += _REGRESSORS
    representation = info.get("representation")
    if method.family is Family.NETWORK or representation in _FROM_NETWORKS:
        names += _NETWORKS.get(keras_backend, _NETWORKS["tensorflow"])
    if representation in _WITH_ATTRIBUTES:
        names += _ATTRIBUTES
    return [f"{name}=={version}" for name, version in installed_versions(tuple(names)).items()]
