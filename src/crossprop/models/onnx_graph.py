"""A small builder of ONNX graphs: nodes and weights in, the bytes of a model out."""

from __future__ import annotations

from typing import Any

import numpy as np

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
