"""The folder of a saved model: ``model.json``, the members of one ensemble or of several blended ones, and digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    StringConstraints,
    ValidationError,
)

from crossprop.data.compositions import ELEMENTS
from crossprop.errors import DataError, ModelFormatError, ShapeMismatchError
from crossprop.features.element_tables import ELEMENTS_FILE, restore_element_tables
from crossprop.methods import Representation
from crossprop.models.ensemble import WITH_ATTRIBUTES, Ensemble, Member, Source, available_threads
from crossprop.models.fitted import SCALING_FILE, FittedModel, network_outputs
from crossprop.models.portable import Network, standardised

if TYPE_CHECKING:
    import keras

FORMAT: Final = 3
"""Written by this version: every file has a digest. Format 2 has evidence without digests, format 1 has neither."""
INFO_FILE: Final = "model.json"
SOURCE_FILE: Final = "source.keras"
DIGESTS_FILE: Final = "SHA256SUMS"
"""Digests of all other files of a saved model; ``sha256sum --check`` reads it, too."""
_DIGEST_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")

Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
"""A folder within the model's: one component, so neither absolute nor a way out."""
Share = Annotated[float, Field(gt=0, lt=1)]
Finite = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Interval(_Section):
    """Section ``interval`` of ``model.json``; ``half_width`` is that of a model without evidence."""

    coverage: Share
    half_width: Finite
    method: Literal["constant", "local"] | None = None
    scale: Finite | None = None
    growth: Finite = 0.0
    floor: FiniteFloat | None = None


class Domain(_Section):
    """Section ``domain`` of ``model.json``."""

    quantile: Share
    radius: Finite | None


class ModelInfo(_Section):
    """What ``model.json`` has to hold, beside what other versions may add."""

    format: Literal[1, 2, 3]
    elements: list[str]
    seen_elements: list[str]
    interval: Interval
    domain: Domain | None = None
    representation: Annotated[Representation, Field(strict=False)] | None = None
    layer: str | None = None
    members: list[Name] | None = None
    parts: dict[Name, list[FiniteFloat]] | None = None


def read_info(folder: Path) -> dict[str, Any]:
    """Content of a saved model's ``model.json``.

    Raises:
        ModelFormatError: There is none that can be read, it is not what was written, or it is of another format.
    """
    path = folder / INFO_FILE
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(
            f"{folder} holds no readable {INFO_FILE}: {error}. Is it a crossprop model?"
        ) from error
    try:
        ModelInfo.model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the content"
        given = "missing" if first["type"] == "missing" else repr(first["input"])[:80]
        raise ModelFormatError(
            f"{path}: {where} is {given}, but: {first['msg']}. Register or pull the model again."
        ) from error
    check_digests(folder, [INFO_FILE])
    return dict(info)


def _subfolder(folder: Path, name: str) -> Path:
    """Folder of a member or a part.

    Raises:
        ModelFormatError: It is a link that leads out of the model's folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelFormatError(
            f"{path} leads to {path.resolve()}, outside of the model's folder. Register or pull the model again."
        )
    return path


def write_digests(folder: Path) -> None:
    """Write the digests of all files of a saved model.

    Raises:
        OSError: The folder cannot be read or written.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS_FILE)
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / DIGESTS_FILE).write_text("".join(lines), encoding="utf-8")


def check_digests(folder: Path, names: Iterable[str] | None = None) -> None:
    """Compare the files of a saved model with the digests that were written with them, where there are any.

    Args:
        folder: The saved model.
        names: Files to look at; by default all.

    Raises:
        ModelFormatError: A file has changed, is missing or is not listed; the message names it.
    """
    path = folder / DIGESTS_FILE
    if not path.is_file():
        return
    try:
        *lines, rest = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ModelFormatError(
            f"{path} cannot be read: {error}. Register or pull the model again."
        ) from error
    found = [line for line in map(_DIGEST_LINE.fullmatch, lines) if line is not None]
    listed = {line[2]: line[1] for line in found}
    if rest or not len(lines) == len(found) == len(listed) or INFO_FILE not in listed:
        raise ModelFormatError(f"{path} is no list of digests. Register or pull the model again.")
    for name in listed if names is None else names:
        if name not in listed:
            raise ModelFormatError(f"{path} has no digest of {name}. Register or pull the model again.")
        try:
            digest = _digest(folder / name)
        except OSError as error:
            raise ModelFormatError(
                f"{folder / name} cannot be read: {error}. Register or pull the model again."
            ) from error
        if digest != listed[name]:
            raise ModelFormatError(
                f"{folder / name} has changed since it was written: its SHA-256 is {digest[:12]}, {path} states "
                f"{listed[name][:12]}. Register or pull the model again."
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_scaling(path: Path) -> np.ndarray:
    try:
        scaling: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}. Register or pull it again.") from error
    return scaling


def load_predictor(folder: Path | str, threads: int | None = None) -> Ensemble:
    """Load a saved ensemble, or a blend of several; Keras is not imported for it.

    Members without a portable form (nearest neighbours), and those that an earlier version wrote, need scikit-learn.

    Args:
        folder: A saved model.
        threads: Threads that one prediction uses at most; by default one for each core.

    Raises:
        ModelFormatError: The folder is no saved model, of another format, or a file of it was changed or damaged.
        DataError: The number of threads is less than one.
    """
    folder = Path(folder)
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}, but a prediction needs at least one. Give 1 or more.")
    info = read_info(folder)
    if info["format"] == FORMAT and not (folder / DIGESTS_FILE).is_file():
        raise ModelFormatError(
            f"{folder} lacks {DIGESTS_FILE}: it was not written completely. Register it again."
        )
    check_digests(folder)
    sources: list[Source] = []
    members: list[Member] = []
    parts = [(_subfolder(folder, name), weights) for name, weights in (info.get("parts") or {}).items()]
    for path, weights in parts or [(folder, [1.0] * len(info.get("members") or ()))]:
        own = read_info(path) if parts else info
        names = own.get("members") or []
        if not names or not own.get("representation"):
            raise ModelFormatError(f"{path}/{INFO_FILE} lists no members. Register the model again.")
        if not len(names) == len(weights) == len(parts[0][1] if parts else names):
            raise ModelFormatError(
                f"{folder}/{INFO_FILE}: parts and weights do not match. Register the model again."
            )
        source = _load_source(path, own)
        if source not in sources:
            sources.append(source)
        for fold, (name, weight) in enumerate(zip(names, weights, strict=True)):
            if weight:
                member = _subfolder(path, name)
                cost = sum(file.stat().st_size for file in member.glob("*"))
                members.append(Member(FittedModel.load(member), sources.index(source), fold, weight, cost))
    if not members:
        raise ModelFormatError(f"{folder}/{INFO_FILE}: all weights are zero. Register the model again.")
    if any(source.representation in WITH_ATTRIBUTES for source in sources):
        restore_element_tables(folder / ELEMENTS_FILE)
    return Ensemble(folder, info, sources, members, len(weights), threads or available_threads())


def _load_source(folder: Path, info: Mapping[str, Any]) -> Source:
    """What the members of an ensemble read."""
    kind = Representation(info["representation"])
    if kind not in (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES):
        return Source(kind)
    path = folder / SOURCE_FILE
    if kind is Representation.ACTIVATIONS:
        layer = str(info.get("layer"))
        return Source(kind, Network.read(path, layer=layer), layer, _digest(path))
    return Source(kind, Network.read(path, _load_scaling(folder / SCALING_FILE)), "", _digest(path))


def beside_predictions(combined: np.ndarray, network: keras.Model, scaling: np.ndarray) -> np.ndarray:
    """Physical attributes beside what a joint network predicts for its sources.

    Args:
        combined: Fractions beside attributes, shape (n_samples, 231).
        network: A joint network.
        scaling: Mean and deviation of its inputs, shape (2, 231).

    Returns:
        Shape (n_samples, 145 + n_sources), float32; predictions in the transformed scales of the network.

    Raises:
        ShapeMismatchError: The network takes another width.
    """
    if combined.ndim != 2 or combined.shape[1] != network.input_shape[1]:
        raise ShapeMismatchError(
            f"features have shape {combined.shape}, the network takes (n_samples, {network.input_shape[1]})."
        )
    predictions = network_outputs(network, standardised(combined, scaling))
    attributes = combined[:, len(ELEMENTS) :]
    return np.concatenate([attributes, predictions], axis=1).astype(np.float32)
