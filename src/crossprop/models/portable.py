"""Fitted regressors and networks as plain arrays that predict without Keras and scikit-learn."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.errors import ModelFormatError
from crossprop.methods import EXTRACTION_LAYERS, HEAD
from crossprop.models.networks import BLOCKS, REPRESENTATION_LAYER
from crossprop.models.trees import NODE, Trees, trees_of

_OPSET = 18
_IR_VERSION = 9
_EPSILON = 1e-3  # what Keras' layer normalisation adds to the variance


@dataclass(frozen=True)
class Standardiser:
    """Mean and deviation of the features, shape (n_features,) each, float32; empty where a model takes raw ones."""

    mean: np.ndarray
    deviation: np.ndarray

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """Features as scikit-learn's StandardScaler gives them in float32."""
        return (features - self.mean) / self.deviation if len(self.mean) else features


@dataclass(frozen=True)
class Linear(Standardiser):
    """A linear model: coefficients, shape (n_features,), and intercept."""

    coefficients: np.ndarray
    intercept: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        return np.asarray(self.standardised(features) @ self.coefficients + self.intercept)


@dataclass(frozen=True)
class Kernel(Standardiser):
    """A support vector machine with the Gaussian kernel ``exp(-gamma |x - v|^2)``."""

    # float64: the sum of thousands of large terms of both signs would lose four digits in float32

    vectors: np.ndarray
    gamma: np.ndarray
    coefficients: np.ndarray
    intercept: np.ndarray

    @cached_property
    def _exponents(self) -> Session:
        graph = Graph(self.vectors.shape[1], np.float64)
        # -gamma |x - v|^2 = x . 2 gamma v - gamma |v|^2 - gamma |x|^2
        offsets = -self.gamma * (self.vectors**2).sum(axis=1)
        products = graph.add("Gemm", INPUT, 2 * self.gamma * self.vectors, offsets, transB=1)
        squares = graph.add("ReduceSumSquare", INPUT, np.array([1]))
        return graph.session(graph.add("Sub", products, graph.add("Mul", squares, self.gamma)))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        terms = self._exponents(self.standardised(features))
        np.exp(terms, out=terms)  # takes a third of ONNX Runtime's time
        # not "@", which would start threads of its own
        return np.asarray(np.einsum("ij,j->i", terms, self.coefficients) + self.intercept)


Portable = Linear | Kernel | Trees
_FORMS: dict[str, type[Portable]] = {"linear": Linear, "kernel": Kernel, "trees": Trees}
"""Portable forms of regressors by their name in ``member.json``."""
_LINEAR = ("Ridge", "ElasticNet", "Lasso", "SGDRegressor", "LinearRegression")


def portable_regressor(estimator: Any) -> Portable | None:
    """Translate a fitted scikit-learn regressor, alone or behind a StandardScaler, into its portable form, if any."""
    if isinstance(estimator, Portable):
        return estimator
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    names = [type(step).__name__ for step in steps]
    body = steps[-1]
    try:
        if len(steps) == 1 and (trees := trees_of(body)) is not None:
            return trees
        if names[:-1] not in ([], ["StandardScaler"]):
            return None
        scaling = (np.zeros(0, np.float32), np.zeros(0, np.float32))
        if len(steps) > 1:
            scaling = steps[0].mean_.astype(np.float32), steps[0].scale_.astype(np.float32)
        if names[-1] in _LINEAR:
            return Linear(*scaling, np.ravel(body.coef_), np.ravel(body.intercept_)[0])
        if names == ["StandardScaler", "SVR"] and body.kernel == "rbf" and len(body.support_vectors_):
            gamma = _gamma(body, steps[0])
            return Kernel(*scaling, body.support_vectors_, gamma, body.dual_coef_[0], body.intercept_[0])
    except (AttributeError, ValueError, TypeError, ModelFormatError):
        return None
    return None


def _gamma(machine: Any, scaler: Any) -> np.ndarray:
    """Width of the kernel; "scale" is one over the number of features times the variance of the standardised ones."""
    if machine.gamma == "scale":
        return np.array(1 / (scaler.var_ / scaler.scale_**2).sum())
    return np.array(1 / machine.n_features_in_ if machine.gamma == "auto" else float(machine.gamma))


def save_arrays(body: Portable, path: Path) -> None:
    """Write a portable regressor as an npz file."""
    np.savez(path, **{field.name: getattr(body, field.name) for field in fields(body)})


def load_arrays(form: str, path: Path) -> Portable:
    """Read what :func:`save_arrays` wrote; an unknown form and other arrays are refused (ModelFormatError)."""
    if form not in _FORMS:
        raise ModelFormatError(f"{path} has the form {form!r}, which this version cannot load.")
    cls = _FORMS[form]
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept}
    known = set(arrays) == {field.name for field in fields(cls)}
    if not known or (cls is Trees and arrays["nodes"].dtype != NODE):
        raise ModelFormatError(f"{path} holds {sorted(arrays)}, not the arrays of {form}. Register it again.")
    return cls(**arrays)


class Network:
    """An ElemNet or residual network that gives the outputs of ``layer``; ``scaling`` has shape (2, n_features)."""

    def __init__(
        self,
        weights: Mapping[str, Sequence[np.ndarray]],
        scaling: np.ndarray | None = None,
        layer: str = HEAD,
    ) -> None:
        residual = "entrance" in weights
        graph = Graph(len(weights["entrance" if residual else EXTRACTION_LAYERS[0]][0]))
        value = INPUT
        if scaling is not None:
            centred = graph.add("Div", graph.add("Sub", value, scaling[0]), scaling[1])
            value = graph.add("Clip", centred, np.array(-10.0), np.array(10.0))
        if residual:
            value = graph.add("Gemm", value, *weights["entrance"])
            for i in range(1, BLOCKS + 1):
                normal = graph.add("LayerNormalization", value, *weights[f"norm_{i:02d}"], epsilon=_EPSILON)
                inner = graph.add("Gemm", normal, *weights[f"inner_{i:02d}"])
                swish = graph.add("Mul", inner, graph.add("Sigmoid", inner))
                value = graph.add("Add", value, graph.add("Gemm", swish, *weights[f"outer_{i:02d}"]))
            value = graph.add("LayerNormalization", value, *weights[REPRESENTATION_LAYER], epsilon=_EPSILON)
            value = graph.add("Gemm", value, *weights[HEAD])
        else:
            for name in EXTRACTION_LAYERS[: EXTRACTION_LAYERS.index(layer) + 1 if layer != HEAD else None]:
                value = graph.add("Relu", graph.add("Gemm", value, *weights[name]))
            value = graph.add("Gemm", value, *weights[HEAD]) if layer == HEAD else value
        self.outputs = graph.session(value)

    @classmethod
    def read(cls, path: Path, scaling: np.ndarray | None = None, layer: str = HEAD) -> Network:
        """Read a ``.keras`` file without Keras; another kind of network is refused (ModelFormatError)."""
        try:
            weights = dict(_stored_weights(path))
        except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            raise ModelFormatError(f"{path} cannot be read as a network: {error!r}. Restore it.") from error
        expected = {HEAD, *(_RESIDUAL_LAYERS if "entrance" in weights else EXTRACTION_LAYERS)}
        if set(weights) != expected:
            raise ModelFormatError(
                f"{path} is neither an ElemNet nor a residual network: it differs in the layers "
                f"{', '.join(sorted(set(weights) ^ expected))}. Was the model made by another version?"
            )
        if layer not in (HEAD, *(EXTRACTION_LAYERS if EXTRACTION_LAYERS[0] in weights else ())):
            raise ModelFormatError(f"{path} has no layer {layer!r}. Was the model made by another version?")
        return cls(weights, scaling, layer)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The first output, shape (n,)."""
        return self.outputs(features)[:, 0]


_RESIDUAL_LAYERS = (
    "entrance",
    *(f"{kind}_{i:02d}" for i in range(1, BLOCKS + 1) for kind in ("norm", "inner", "outer")),
    REPRESENTATION_LAYER,
)


INPUT = "features"
Session = Callable[[np.ndarray], np.ndarray]
"""Turns features of shape (n, n_features) into outputs of shape (n, n_outputs)."""


class Graph:
    """An ONNX graph of one input, shape (n, width), and one output; NumPy's threads would spin while they wait."""

    def __init__(self, width: int, dtype: type[np.floating] = np.float32) -> None:
        self.width = width
        self.dtype = dtype
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def add(self, operator: str, *inputs: str | np.ndarray, **attributes: Any) -> str:
        """Append a node whose inputs are outputs of other nodes, or arrays; returns the name of its output."""
        from onnx import helper

        output = f"{operator}_{len(self._nodes)}"
        names = [given if isinstance(given, str) else self._weight(given) for given in inputs]
        self._nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def _weight(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"weight_{len(self._weights)}"
        array = values if values.dtype.kind == "i" else np.ascontiguousarray(values, dtype=self.dtype)
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def session(self, output: str) -> Session:
        """A function that computes an output on one thread; arrays that do not fit together are refused."""
        import onnxruntime
        from onnx import helper

        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self._nodes,
            "crossprop",
            [helper.make_tensor_value_info(INPUT, kind, ["n", self.width])],
            [helper.make_tensor_value_info(output, kind, ["n", None])],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common class
            raise ModelFormatError(f"The weights of a network do not fit together: {error}") from error

        dtype = self.dtype  # the weights are the session's now
        return lambda features: session.run(None, {INPUT: np.ascontiguousarray(features, dtype)})[0]


def standardised(features: np.ndarray, scaling: np.ndarray) -> np.ndarray:
    """Features minus their mean over their deviation, cut at ten deviations, float32."""
    return np.clip((np.asarray(features, np.float32) - scaling[0]) / scaling[1], -10, 10).astype(np.float32)


def _stored_weights(path: Path) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    """Weights by the name of their layer; the file names them by class and number: ``dense``, ``dense_1``."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
        content = io.BytesIO(archive.read("model.weights.h5"))
    seen: Counter[str] = Counter()
    with h5py.File(content, "r") as stored:
        for layer in layers:
            kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", layer["class_name"]).lower()
            kept = stored["layers"][f"{kind}_{seen[kind]}" if seen[kind] else kind]["vars"]
            seen[kind] += 1
            if len(kept):
                yield layer["name"], tuple(np.asarray(kept[str(i)], np.float32) for i in range(len(kept)))
