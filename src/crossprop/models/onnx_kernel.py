"""A support vector machine with a Gaussian kernel as an ONNX model: one matrix product in place of many distances."""

from __future__ import annotations

import numpy as np

from crossprop.models.onnx_graph import INPUT, Graph


def gaussian_kernel_to_onnx(
    vectors: np.ndarray, coefficients: np.ndarray, gamma: float, intercept: float
) -> bytes:
    """Translate ``sum_i coefficients_i exp(-gamma |x - vectors_i|^2) + intercept``.

    Everything is float64: the sum of thousands of large terms of both signs would lose four digits in float32.

    Args:
        vectors: Support vectors, shape (n_vectors, n_features).
        coefficients: Shape (n_vectors,).
        gamma: Width of the kernel.
        intercept: Constant.

    Returns:
        An ONNX model, float64, input shape (n, n_features), output shape (n, 1).
    """
    graph = Graph(vectors.shape[1], np.float64)
    # -gamma |x - v|^2 = x . 2 gamma v - gamma |v|^2 - gamma |x|^2
    products = graph.add(
        "Gemm", INPUT, graph.weight(2 * gamma * vectors.T), graph.weight(-gamma * (vectors**2).sum(axis=1))
    )
    axis = graph.weight(np.array([1]), np.int64)
    own = graph.add("Mul", graph.add("ReduceSumSquare", INPUT, axis), graph.weight(np.array(-gamma)))
    kernel = graph.add("Exp", graph.add("Add", products, own))
    total = graph.add("MatMul", kernel, graph.weight(coefficients[:, None]))
    return graph.to_bytes(graph.add("Add", total, graph.weight(np.array([intercept]))), 1)
