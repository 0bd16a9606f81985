"""The folder of a saved model: ``model.json``, the members of one ensemble or of several blended ones, and digests."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

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

from crossprop.errors import DataError, ModelFormatError
from crossprop.features.element_tables import ELEMENTS_FILE, restore_element_tables
from crossprop.io import check_digests, file_digest, read_json, usable_cores
from crossprop.methods import Method, Representation
from crossprop.models.ensemble import WITH_ATTRIBUTES, Ensemble, Member, Source
from crossprop.models.fitted import SCALING_FILE, FittedModel
from crossprop.models.portable import Network

FORMAT: Final = 3
INFO_FILE: Final = "model.json"
SOURCE_FILE: Final = "source.keras"
_AGAIN: Final = "Register or pull the model again."

Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
"""A folder within the model's: one component, so neither absolute nor a way out."""
Share = Annotated[float, Field(gt=0, lt=1)]
Finite = Annotated[NonNegativeFloat, Field(allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class Interval(_Section):
    """Section ``interval`` of ``model.json``."""

    coverage: Share
    method: Literal["constant", "local"]
    scale: Finite
    growth: Finite
    floor: FiniteFloat | None


class Domain(_Section):
    """Section ``domain`` of ``model.json``."""

    quantile: Share
    radius: Finite | None


class PartInfo(_Section):
    """Required content of the ``model.json`` of a part of a blend."""

    format: Literal[3]
    study: str
    target: str
    unit: str
    method: Annotated[Method, Field(strict=False)]
    elements: list[str]
    seen_elements: list[str]
    representation: Annotated[Representation, Field(strict=False)] | None = None
    layer: str | None = None
    members: list[Name] | None = None
    parts: dict[Name, list[FiniteFloat]] | None = None


class ModelInfo(PartInfo):
    """Required content of the ``model.json`` of a whole model."""

    interval: Interval
    domain: Domain


def read_info(folder: Path, *, part: bool = False) -> dict[str, Any]:
    """Content of the ``model.json`` of a saved model, or of a ``part``; ModelFormatError if it is no such."""
    path = folder / INFO_FILE
    if not part and not folder.is_dir():
        raise ModelFormatError(f"There is no folder {folder}. Name the folder of a saved crossprop model.")
    try:
        info = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{folder} holds no readable {INFO_FILE}: {error}. Is it a crossprop model?") from error
    try:
        (PartInfo if part else ModelInfo).model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the content"
        given = "missing" if first["type"] == "missing" else repr(first["input"])[:80]
        remedy = _AGAIN
        if where == "format":
            remedy = "Another version of crossprop wrote it: run the study or the fit again with this one."
        raise ModelFormatError(f"{path}: {where} is {given}, but: {first['msg']}. {remedy}") from error
    if not part:
        check_digests(folder, [INFO_FILE])
    return dict(info)


def load_predictor(folder: Path | str, threads: int | None = None) -> Ensemble:
    """Load a saved ensemble or blend (ModelFormatError) to predict with so many threads, at least one (DataError)."""
    folder = Path(folder)
    if threads is not None and threads < 1:
        raise DataError(f"threads is {threads}, but a prediction needs at least one. Give 1 or more.")
    info = read_info(folder)
    check_digests(folder)
    sources: list[Source] = []
    members: list[Member] = []
    parts = [(_subfolder(folder, name), weights) for name, weights in (info.get("parts") or {}).items()]
    for path, weights in parts or [(folder, [1.0] * len(info.get("members") or ()))]:
        part = read_info(path, part=True) if parts else info
        names = part.get("members") or []
        if not names or not part.get("representation"):
            raise ModelFormatError(f"{path}/{INFO_FILE} lists no members. {_AGAIN}")
        if not len(names) == len(weights) == len(parts[0][1] if parts else names):
            raise ModelFormatError(f"{folder}/{INFO_FILE}: parts and weights do not match. {_AGAIN}")
        source = load_source(path / SOURCE_FILE, Representation(part["representation"]), part.get("layer"))
        if source not in sources:
            sources.append(source)
        for fold, (name, weight) in enumerate(zip(names, weights, strict=True)):
            if weight:
                member = _subfolder(path, name)
                cost = sum(file.stat().st_size for file in member.glob("*"))
                members.append(Member(FittedModel.load(member), sources.index(source), fold, weight, cost))
    if not members:
        raise ModelFormatError(f"{folder}/{INFO_FILE}: all weights are zero. {_AGAIN}")
    if any(source.representation in WITH_ATTRIBUTES for source in sources):
        restore_element_tables(folder / ELEMENTS_FILE)
    return Ensemble(folder, info, sources, members, len(weights), threads or usable_cores())


def _subfolder(folder: Path, name: str) -> Path:
    """Folder of a member or a part; a link that leads out of the model's folder is refused."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ModelFormatError(f"{path} leads to {path.resolve()}, outside of the model's folder. {_AGAIN}")
    return path


def load_source(network: Path | None, kind: Representation, layer: str | None) -> Source:
    """A representation that models read, with its network, if it has one; the scaling of that lies beside it."""
    if network is None or kind not in (Representation.ACTIVATIONS, Representation.PREDICTED_SOURCES):
        return Source(kind)
    if kind is Representation.ACTIVATIONS:
        return Source(kind, Network.read(network, layer=str(layer)), str(layer), file_digest(network))
    path = network.with_name(SCALING_FILE)
    try:
        scaling = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}. {_AGAIN}") from error
    return Source(kind, Network.read(network, scaling), "", file_digest(network))
