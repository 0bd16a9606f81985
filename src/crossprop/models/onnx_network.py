"""A saved Keras network as an ONNX model, read from its file without Keras: neither code nor a backend is needed."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossprop.errors import ModelFormatError
from crossprop.models.onnx_graph import INPUT, Graph

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
