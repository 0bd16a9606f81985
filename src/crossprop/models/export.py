"""One fitted model of an ensemble in a form that predicts without Keras and scikit-learn."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.errors import ModelFormatError
from crossprop.models.fitted import FittedModel
from crossprop.models.trees import PackedTrees, trees_of

OPSET = 18
IR_VERSION = 9
INPUT = "features"


class Graph:
    """A graph of one input, shape (n, width), and one output, shape (n, outputs).

    Args:
        width: Columns of the input.
        dtype: Type of the input, the output and all weights.
    """

    def __init__(self, width: int, dtype: type[np.floating] = np.float32) -> None:
        self.width = width
        self.dtype = dtype
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; returns the name of what it gives."""
        from onnx import helper

        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def weight(self, values: np.ndarray, dtype: type[np.generic] | None = None) -> str:
        """Store an array, by default in the graph's type; returns its name."""
        from onnx import numpy_helper

        name = f"weight_{len(self._weights)}"
        array = np.ascontiguousarray(values, dtype=dtype or self.dtype)
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def standardise(self, scaling: np.ndarray, value: str = INPUT) -> str:
        """Minus mean over deviation, cut at ten deviations: as ``crossprop.models.fitted.standardised``."""
        centred = self.add("Sub", value, self.weight(scaling[0]))
        scaled = self.add("Div", centred, self.weight(scaling[1]))
        return self.add("Clip", scaled, self.weight(np.array(-10.0)), self.weight(np.array(10.0)))

    def to_bytes(self, output: str, outputs: int) -> bytes:
        """The model whose output is the named value with so many columns."""
        from onnx import TensorProto, helper

        kind = TensorProto.DOUBLE if self.dtype is np.float64 else TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "crossprop",
            [helper.make_tensor_value_info(INPUT, kind, ["n", self.width])],
            [helper.make_tensor_value_info(output, kind, ["n", outputs])],
            self._weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        content: bytes = model.SerializeToString()
        return content


def gaussian_exponents_to_onnx(vectors: np.ndarray, gamma: float) -> bytes:
    """Translate ``-gamma |x - vectors_i|^2``, what a kernel of support vectors takes the exponential of.

    Everything is float64: the sum of thousands of large terms of both signs would lose four digits in float32. The
    exponential itself is left to NumPy, which needs a third of ONNX Runtime's time for it.

    Args:
        vectors: Support vectors, shape (n_vectors, n_features).
        gamma: Width of the kernel.

    Returns:
        An ONNX model, float64, input shape (n, n_features), output shape (n, n_vectors).
    """
    graph = Graph(vectors.shape[1], np.float64)
    # -gamma |x - v|^2 = x . 2 gamma v - gamma |v|^2 - gamma |x|^2; one vector a row takes half the time of one a column
    inputs = graph.weight(2 * gamma * vectors), graph.weight(-gamma * (vectors**2).sum(axis=1))
    products = graph.add("Gemm", INPUT, *inputs, transB=1)
    axis = graph.weight(np.array([1]), np.int64)
    own = graph.add("Mul", graph.add("ReduceSumSquare", INPUT, axis), graph.weight(np.array(-gamma)))
    return graph.to_bytes(graph.add("Add", products, own), len(vectors))


_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus"}


@dataclass(frozen=True)
class _Layer:
    """One layer of a network's file: its class, settings, inputs by name of the layer, and weights in order."""

    name: str
    kind: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]
    weights: tuple[np.ndarray, ...]


def network_to_onnx(path: Path, layer: str | None = None, scaling: np.ndarray | None = None) -> bytes:
    """Translate a network of dense layers, normalisations, sums and dropout.

    Args:
        path: A ``.keras`` file that ``crossprop.models.fitted.save_network`` wrote.
        layer: Name of the layer whose output is wanted; by default the network's own output.
        scaling: Shape (2, n_features): mean and deviation that the inputs are standardised by first.

    Returns:
        An ONNX model, float32, input shape (n, n_features), output shape (n, width of the layer).

    Raises:
        ModelFormatError: The file is missing or damaged, or holds a layer that is not known here.
    """
    try:
        layers, entrance, end = _read(path)
        wanted = layer or end
        if wanted not in {one.name for one in layers}:
            raise ModelFormatError(f"{path} has no layer {wanted!r}. Was the model made by another version?")
        return _translate(layers, entrance, wanted, scaling)
    except (OSError, KeyError, ValueError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise ModelFormatError(f"{path} cannot be read as a Keras network: {error!r}. Restore it.") from error


def _read(path: Path) -> tuple[list[_Layer], str, str]:
    """Layers in order, and the names of the first and the last."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        content = archive.read("model.weights.h5")
    if config["class_name"] != "Functional":
        raise ModelFormatError(f"{path} is a {config['class_name']} model; only Functional ones are known.")
    described = config["config"]["layers"]
    with h5py.File(io.BytesIO(content), "r") as stored:
        groups = stored["layers"]
        names = list(_stored_names(described))
        if set(names) != set(groups):
            raise ModelFormatError(f"{path} names its weights in a way that is not known here.")
        layers = [_layer(one, groups[name]["vars"]) for one, name in zip(described, names, strict=True)]
    return layers, config["config"]["input_layers"][0], config["config"]["output_layers"][0]


def _stored_names(described: list[dict[str, Any]]) -> Iterator[str]:
    """Names of the weights' groups: the class in lower case, from the second one on with its number."""
    seen: dict[str, int] = {}
    for one in described:
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", one["class_name"]).lower()
        seen[kind] = seen.get(kind, -1) + 1
        yield f"{kind}_{seen[kind]}" if seen[kind] else kind


def _layer(described: dict[str, Any], stored: Any) -> _Layer:
    if described.get("module") != "keras.layers":
        raise ModelFormatError(
            f"a layer {described['class_name']!r} of {described.get('module')!r} is not known."
        )
    inputs: list[str] = []
    for node in described["inbound_nodes"]:
        inputs += [tensor["config"]["keras_history"][0] for tensor in _tensors(node["args"])]
    weights = tuple(np.asarray(stored[str(i)], dtype=np.float32) for i in range(len(stored)))
    return _Layer(described["name"], described["class_name"], described["config"], tuple(inputs), weights)


def _tensors(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _tensors(one)


def _translate(layers: list[_Layer], entrance: str, wanted: str, scaling: np.ndarray | None) -> bytes:
    width = next(int(one.settings["batch_shape"][-1]) for one in layers if one.name == entrance)
    graph = Graph(width)
    values = {entrance: INPUT if scaling is None else graph.standardise(scaling)}
    widths = {entrance: width}
    for one in layers:
        if one.name == entrance:
            continue
        given = [values[name] for name in one.inputs]
        values[one.name] = _add_layer(graph, one, given, widths[one.inputs[0]])
        widths[one.name] = int(one.settings.get("units", widths[one.inputs[0]]))
        if one.name == wanted:
            break
    return graph.to_bytes(values[wanted], widths[wanted])


def _add_layer(graph: Graph, layer: _Layer, given: list[str], width: int) -> str:
    if layer.kind == "Dropout":
        return given[0]
    if layer.kind == "Add":
        total = given[0]
        for other in given[1:]:
            total = graph.add("Add", total, other)
        return total
    if layer.kind == "LayerNormalization":
        return _add_normalisation(graph, layer, given[0], width)
    if layer.kind == "Activation":
        return _add_activation(graph, layer.settings["activation"], given[0])
    if layer.kind == "Dense":
        kernel = layer.weights[0]
        bias = layer.weights[1] if layer.settings["use_bias"] else np.zeros(kernel.shape[1])
        if kernel.shape != (width, layer.settings["units"]) or bias.shape != kernel.shape[1:]:
            raise ValueError(f"weights of layer {layer.name} have shapes {kernel.shape} and {bias.shape}")
        linear = graph.add("Gemm", given[0], graph.weight(kernel), graph.weight(bias))
        return _add_activation(graph, layer.settings["activation"], linear)
    raise ModelFormatError(f"the layer {layer.name} is a {layer.kind}, which is not known here.")


def _add_normalisation(graph: Graph, layer: _Layer, given: str, width: int) -> str:
    settings = layer.settings
    if settings["axis"] not in (-1, [-1]) or settings.get("rms_scaling"):
        raise ModelFormatError(f"the layer {layer.name} normalises in a way that is not known here.")
    weights = iter(layer.weights)
    scale = next(weights) if settings["scale"] else np.ones(width)
    offset = next(weights) if settings["center"] else np.zeros(width)
    if scale.shape != (width,) or offset.shape != (width,):
        raise ValueError(f"weights of layer {layer.name} have shapes {scale.shape} and {offset.shape}")
    inputs = given, graph.weight(scale), graph.weight(offset)
    return graph.add("LayerNormalization", *inputs, axis=-1, epsilon=float(settings["epsilon"]))


def _add_activation(graph: Graph, name: Any, given: str) -> str:
    if name == "linear":
        return given
    if name in ("silu", "swish"):
        return graph.add("Mul", given, graph.add("Sigmoid", given))
    if name in _ACTIVATIONS:
        return graph.add(_ACTIVATIONS[name], given)
    raise ModelFormatError(f"the activation {name!r} is not known here.")


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
