"""Which packages a registered model needs, in the versions it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossprop.tracking.provenance import installed_versions
from crossprop.vocabulary import Family, Method, Representation

_ALWAYS = ("mlflow", "numpy", "pandas")
_REGRESSORS = ("scikit-learn", "skops", "scipy")
_NETWORKS = {"tensorflow": ("keras", "tensorflow"), "jax": ("keras", "jax"), "torch": ("keras", "torch")}
_ATTRIBUTES = ("matminer", "pymatgen")


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
    if method.family is Family.NETWORK or info.get("representation") == Representation.ACTIVATIONS:
        names += _NETWORKS.get(keras_backend, _NETWORKS["tensorflow"])
    if info.get("representation") == Representation.PHYSICAL_ATTRIBUTES:
        names += _ATTRIBUTES
    return [f"{name}=={version}" for name, version in installed_versions(tuple(names)).items()]
