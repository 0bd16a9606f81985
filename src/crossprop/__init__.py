"""crossprop: cross-property transfer learning for small materials data sets."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "CrossPropertyRegressor": "crossprop.estimator.regressor",
    "composition_groups": "crossprop.estimator.inputs",
    "prepare_sources": "crossprop.estimator.pretrained",
}
"""What notebooks take from here, and where it is; loaded when it is asked for."""

__all__ = ["CrossPropertyRegressor", "__version__", "composition_groups", "prepare_sources"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
