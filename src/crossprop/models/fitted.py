"""A fitted model: from a representation to values in the property's unit; saved without pickle."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossprop.errors import ModelFormatError, ShapeMismatchError
from crossprop.io import read_json, write_json
from crossprop.models.portable import Network, load_arrays, portable_regressor, save_arrays, standardised
from crossprop.models.target_transform import TargetTransform

Kind = Literal["base", "regressor", "network"]
INFO_FILE = "member.json"
ARRAYS_FILE = "member.npz"
SCALING_FILE = "scaling.npy"  # lies beside a network that takes standardised inputs
CHUNK = 2048  # rows a network sees at once: bounds the memory of its activations

TRUSTED_TYPES = (
    "sklearn.ensemble._bagging.BaggingRegressor",
    "sklearn.ensemble._forest.ExtraTreesRegressor",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._forest.RandomForestRegressor",
    "sklearn.ensemble._weight_boosting.AdaBoostRegressor",
    "sklearn.neighbors._regression.KNeighborsRegressor",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.svm._classes.SVR",
    "sklearn.tree._classes.DecisionTreeRegressor",
    "sklearn.tree._classes.ExtraTreeRegressor",
    "sklearn.tree._tree.Tree",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.Interval",
    "numpy.dtype",
    "numpy.random.mtrand.RandomState",
)
"""The only types that a skops file may hold: those of regressors that have, or may have, no portable form."""


@dataclass
class FittedModel:
    """One fitted model: a number (base), a regressor or its portable form, or a Keras network, once loaded a Network.

    ``transform`` is the scale in which all but the base predict, ``scaling`` the mean and deviation of a network's
    inputs, shape (2, n_features), unless it takes raw ones.
    """

    kind: Kind
    body: Any
    transform: TargetTransform | None = None
    scaling: np.ndarray | None = None

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict from a representation of shape (n_samples, n_features); returns shape (n_samples,), in the unit."""
        if features.ndim != 2:
            raise ShapeMismatchError(f"features have shape {features.shape}; (n_samples, n_features) is needed.")
        if self.kind == "base":
            return np.full(len(features), float(self.body))
        if not len(features):
            return np.zeros(0)
        if self.kind == "network" and not isinstance(self.body, Network):
            scaled = features if self.scaling is None else standardised(features, self.scaling)
            return self.in_unit(network_outputs(self.body, scaled)[:, 0])
        return self.in_unit(np.asarray(self.body.predict(features)).ravel())

    def in_unit(self, predicted: np.ndarray) -> np.ndarray:
        """Predictions of the body, converted to the property's unit."""
        assert self.transform is not None
        return self.transform.inverse(predicted)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value that it can predict, in the property's unit."""
        if self.kind == "base":
            return float(self.body), float(self.body)
        low, high = self.in_unit(np.array([-np.inf, np.inf])).tolist()
        return low, high

    def save(self, folder: Path) -> None:
        """Write the model into a folder: regressors in their portable form, those that have none with skops."""
        folder.mkdir(parents=True, exist_ok=True)
        info: dict[str, Any] = {
            "kind": self.kind,
            "transform": None if self.transform is None else asdict(self.transform),
            "standardised": self.scaling is not None,
        }
        if self.kind == "base":
            info["value"] = float(self.body)
        elif self.kind == "network":
            save_network(self.body, folder / "network.keras")
        elif (portable := portable_regressor(self.body)) is not None:
            info["form"] = type(portable).__name__.lower()
            save_arrays(portable, folder / ARRAYS_FILE)
        else:
            import skops.io

            path = folder / "regressor.skops"
            skops.io.dump(self.body, path, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        if self.scaling is not None:
            np.save(folder / SCALING_FILE, self.scaling, allow_pickle=False)
        write_json(folder / INFO_FILE, info)

    @classmethod
    def load(cls, folder: Path) -> FittedModel:
        """Read what :meth:`save` wrote, without Keras; a type outside :data:`TRUSTED_TYPES` is refused."""
        try:
            info = read_json(folder / INFO_FILE)
            transform = None if info["transform"] is None else TargetTransform(**info["transform"])
            scaling = np.load(folder / SCALING_FILE, allow_pickle=False) if info["standardised"] else None
            kind = info["kind"]
            body: Any
            if kind == "base":
                body = float(info["value"])
            elif kind == "network":
                body = Network.read(folder / "network.keras", scaling)
            elif kind == "regressor" and "form" in info:
                body = load_arrays(info["form"], folder / ARRAYS_FILE)
            elif kind == "regressor":
                import skops.io

                path = folder / "regressor.skops"
                if strange := set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED_TYPES):
                    names = ", ".join(sorted(strange))
                    raise ModelFormatError(f"{path} holds {names}, which crossprop does not trust.")
                body = skops.io.load(path, trusted=list(TRUSTED_TYPES))
            else:
                raise ModelFormatError(f"{folder}/{INFO_FILE} names the kind {kind!r}, which this version cannot load.")
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ModelFormatError(f"{folder} holds no complete model: {error}. Pull it again.") from error
        return cls(kind, body, transform, scaling)


def network_outputs(network: Any, features: np.ndarray) -> np.ndarray:
    """Outputs of a network for scaled features, shape (n_samples, n_outputs), chunk by chunk, without tracing."""
    import keras

    outputs = [np.zeros((0, network.output_shape[1]), np.float32)]
    for start in range(0, len(features), CHUNK):
        chunk = np.asarray(features[start : start + CHUNK], np.float32)
        outputs.append(keras.ops.convert_to_numpy(network(chunk, training=False)))
    return np.concatenate(outputs)


def save_network(network: Any, path: Path) -> None:
    """Save the architecture and weights of a network, without its optimizer."""
    import keras

    keras.Model(network.input, network.output, name=network.name).save(path)
