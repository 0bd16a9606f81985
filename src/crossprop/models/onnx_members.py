"""One fitted model of an ensemble in a form that predicts without Keras and scikit-learn."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.errors import ModelFormatError
from crossprop.models.fitted import FittedModel
from crossprop.models.onnx_kernel import gaussian_exponents_to_onnx
from crossprop.models.onnx_network import network_to_onnx
from crossprop.models.packed_trees import PackedTrees
from crossprop.models.sklearn_trees import trees_of

_LINEAR = ("Ridge", "ElasticNet", "Lasso", "SGDRegressor", "LinearRegression")


@dataclass(frozen=True)
class CompiledMember:
    """What a fitted model becomes.

    Attributes:
        note: Plain values: ``kind`` (constant, network, kernel, linear, trees or original), the target's
            ``transform``, and what else the kind needs.
        arrays: Arrays by name.
        onnx: An ONNX model, where the kind has one.
        trees: The trees of the kind of that name; they are stored beside those of other members.
    """

    note: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    onnx: bytes | None = None
    trees: PackedTrees | None = None


def compile_member(folder: Path) -> CompiledMember:
    """Translate the fitted model in a folder.

    Networks are read as weights and a list of layers; regressors through
    :meth:`~crossprop.models.fitted.FittedModel.load`, and so with its list of trusted types. What has no faster form
    (nearest neighbours, a kernel other than the Gaussian one, a layer that is not known) keeps the kind ``original``:
    it is loaded as it is, and ``reason`` says why.

    Raises:
        ModelFormatError: The folder holds no complete model.
    """
    try:
        note = json.loads((folder / "member.json").read_text(encoding="utf-8"))
        network = note["kind"] == "network"
        transform = note["transform"]
        standardised = note["standardised"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(
            f"{folder} holds no complete model: {error}. Register or pull it again."
        ) from error
    if network:
        try:
            scaling = np.load(folder / "scaling.npy", allow_pickle=False) if standardised else None
            onnx = network_to_onnx(folder / "network.keras", scaling=scaling)
        except (ModelFormatError, OSError, ValueError) as error:
            FittedModel.load(folder)  # a damaged one is refused here
            return _original(error)
        return CompiledMember({"kind": "network", "transform": transform}, onnx=onnx)
    model = FittedModel.load(folder)
    if model.kind == "base":
        return CompiledMember({"kind": "constant", "value": float(model.body)})
    try:
        return _compile_regressor(model.body, transform)
    except (ModelFormatError, AttributeError, ValueError) as error:
        return _original(error)


def _original(error: object) -> CompiledMember:
    return CompiledMember({"kind": "original", "reason": str(error)})


def _compile_regressor(estimator: Any, transform: dict[str, Any]) -> CompiledMember:
    trees = trees_of(estimator)
    if trees is not None:
        return _from_trees(trees, transform)
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    names = [type(step).__name__ for step in steps]
    body = steps[-1]
    if names[:-1] not in ([], ["StandardScaler"]):
        raise ModelFormatError(f"{' after '.join(reversed(names))} has no faster form.")
    arrays = _standardising(steps[0]) if len(steps) > 1 else {}
    if names[-1] == "SVR" and body.kernel == "rbf":
        vectors = np.asarray(body.support_vectors_, dtype=np.float64)
        if not len(vectors):
            raise ModelFormatError("a support vector machine without vectors has no faster form.")
        arrays["coefficients"] = np.asarray(body.dual_coef_, dtype=np.float64)[0]
        arrays["intercept"] = np.asarray(body.intercept_, dtype=np.float64)
        onnx = gaussian_exponents_to_onnx(vectors, float(body._gamma))
        return CompiledMember({"kind": "kernel", "transform": transform}, arrays, onnx)
    if names[-1] in _LINEAR:
        arrays |= {"coefficients": np.ravel(body.coef_), "intercept": np.ravel(body.intercept_)}
        return CompiledMember({"kind": "linear", "transform": transform}, arrays)
    raise ModelFormatError(f"{names[-1]} has no faster form.")


def _standardising(scaler: Any) -> dict[str, np.ndarray]:
    if not (scaler.with_mean and scaler.with_std):
        raise ModelFormatError("a StandardScaler without mean or deviation has no faster form.")
    return {"mean": scaler.mean_.astype(np.float32), "deviation": scaler.scale_.astype(np.float32)}


def _from_trees(trees: PackedTrees, transform: dict[str, Any]) -> CompiledMember:
    note = {
        "kind": "trees",
        "transform": transform,
        "n_features": trees.n_features,
        "reduction": trees.reduction,
        "constant": trees.constant,
    }
    return CompiledMember(note, {"weights": trees.weights}, trees=trees)
