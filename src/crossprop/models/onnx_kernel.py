"""A Gaussian kernel as an ONNX model: one matrix product in place of many distances."""

from __future__ import annotations

import numpy as np

from crossprop.models.onnx_graph import INPUT, Graph


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
