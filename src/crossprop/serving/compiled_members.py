"""The compiled forms of fitted models and source networks at work: representation in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crossprop.errors import ModelFormatError
from crossprop.models.onnx_graph import INPUT
from crossprop.models.packed_trees import PackedTrees
from crossprop.models.target_transform import TargetTransform
from crossprop.serving.compiled_forests import Forest, mapped


class Body(Protocol):
    """What predicts in the scale of learning."""

    rows: int
    """Rows of one task: many enough to keep a core busy, few enough to stay in its cache."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions for float32 features of shape (n, n_features), n at least 1; shape (n,)."""
        ...


class Network:
    """A network, or anything else that is one ONNX model.

    ONNX Runtime gets one thread: the work is shared out by rows and by members, which keeps all cores busier than
    sharing out each matrix product does.

    Args:
        path: The model.
        dtype: Type of its input.
    """

    rows = 256

    def __init__(self, path: Path, dtype: type[np.floating] = np.float32) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class
            raise ModelFormatError(
                f"{path} cannot be loaded: {error}. Delete it; it is made again."
            ) from error
        self._dtype = dtype

    def outputs(self, features: np.ndarray) -> np.ndarray:
        """Outputs for features of shape (n, n_features), shape (n, n_outputs)."""
        given = np.ascontiguousarray(features, dtype=self._dtype)
        outputs: np.ndarray = self._session.run(None, {INPUT: given})[0]
        return outputs

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The first output, shape (n,)."""
        return self.outputs(features)[:, 0]


class Kernel:
    """A support vector machine behind standardised features."""

    rows = 128

    def __init__(self, exponents: Network, arrays: Mapping[str, np.ndarray]) -> None:
        self._exponents = exponents
        self._arrays = arrays

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        terms = self._exponents.outputs(_standardised(features, self._arrays))
        np.exp(terms, out=terms)
        # not "@", which would start threads of its own
        predicted: np.ndarray = np.einsum("ij,j->i", terms, self._arrays["coefficients"])
        return predicted + self._arrays["intercept"]


class Linear:
    """A linear model, behind standardised features if it was fitted so."""

    rows = 4096

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        predicted: np.ndarray = (
            _standardised(features, self._arrays) @ self._arrays["coefficients"] + self._arrays["intercept"]
        )
        return predicted


class Trees:
    """An ensemble of trees; its arrays stay in their files and are read as they are needed."""

    rows = 1024

    def __init__(self, note: Mapping[str, Any], forest: Forest, weights: np.ndarray) -> None:
        self.packed = PackedTrees(
            forest.nodes,
            forest.roots[slice(*note["trees"])],
            forest.leaves,
            n_features=note["n_features"],
            reduction=note["reduction"],
            constant=note["constant"],
            weights=weights,
        )

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions, shape (n,)."""
        return self.packed.predict(features)


class Member:
    """A fitted model in its compiled form.

    Attributes:
        representation: Number of the representation that it takes.
        fold: Fold to whose prediction it belongs.
        weight: Its share in that.
        rows: Rows of one task.
        cost: What one row costs, roughly: the bytes of its weights.
        forest: Name of the files that its trees share with those of other members; empty for what is no trees.
    """

    def __init__(
        self, note: Mapping[str, Any], folder: Path, original: Path, forests: Mapping[str, Forest]
    ) -> None:
        """Load a member.

        Args:
            note: Its entry in the plan.
            folder: Folder of the compiled files.
            original: Folder of the saved model.
            forests: From :func:`~crossprop.serving.compiled_forests.load_forests`.
        """
        self.representation = int(note["representation"])
        self.fold = int(note["fold"])
        self.weight = float(note["weight"])
        self._transform: TargetTransform | None = None
        self._body = self._load(note, folder, original, forests)
        self.rows = self._body.rows if hasattr(self._body, "rows") else 4096
        self.forest = str(note.get("forest", ""))
        self.cost = sum(path.stat().st_size for path in folder.glob(f"{note['stem']}.*"))
        self.cost += int(note.get("n_bytes", 0))

    def _load(
        self, note: Mapping[str, Any], folder: Path, original: Path, forests: Mapping[str, Forest]
    ) -> Any:
        kind, stem = note["kind"], note["stem"]
        if kind == "constant":
            return float(note["value"])
        if kind == "original":
            from crossprop.models.fitted import FittedModel

            return FittedModel.load(original / note["origin"])
        self._transform = TargetTransform(**note["transform"])
        arrays = {name: mapped(folder / f"{stem}.{name}.npy") for name in note["arrays"]}
        if kind == "network":
            return Network(folder / f"{stem}.onnx")
        if kind == "kernel":
            return Kernel(Network(folder / f"{stem}.onnx", np.float64), arrays)
        if kind == "linear":
            return Linear(arrays)
        if kind == "trees":
            return Trees(note, forests[note["forest"]], arrays["weights"])
        raise ModelFormatError(f"{folder} holds a member of kind {kind!r}. Delete it; it is made again.")

    @property
    def trees(self) -> PackedTrees:
        """Its trees, where it is a member of a forest."""
        packed: PackedTrees = self._body.packed
        return packed

    @property
    def n_trees(self) -> int:
        """How many they are; 0 for what has none."""
        return len(self.trees.roots) if self.forest else 0

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value that it can predict, in the property's unit; infinite where nothing bounds it."""
        if isinstance(self._body, float):
            return self._body, self._body
        if self._transform is None:
            return -np.inf, np.inf
        low, high = self._transform.inverse(np.array([-np.inf, np.inf])).tolist()
        return low, high

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predictions for a representation of shape (n, n_features), shape (n,), in the property's unit."""
        if isinstance(self._body, float):
            return np.full(len(features), self._body)
        return self.in_unit(self._body.predict(features))

    def in_unit(self, predicted: np.ndarray) -> np.ndarray:
        """What the body predicted, in the property's unit."""
        return predicted if self._transform is None else self._transform.inverse(predicted)


def _standardised(features: np.ndarray, scaling: Mapping[str, np.ndarray]) -> np.ndarray:
    """As scikit-learn's StandardScaler does it in float32."""
    return (features - scaling["mean"]) / scaling["deviation"] if "mean" in scaling else features
