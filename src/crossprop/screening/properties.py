"""Which saved model stands behind each property of a screening."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossprop.errors import ScreeningError, UnknownModelError
from crossprop.inference.predictor import ServedModel
from crossprop.screening.request import ScreenRequest
from crossprop.uncertainty.evidence import KnownValues


@dataclass(frozen=True)
class PropertyModel:
    """The model of one property.

    Attributes:
        name: What the property is called in conditions and columns.
        folder: Saved ensemble.
        model: Registered name, or the folder where it is none.
        version: Number of the registered version, or an empty text.
        target: Target property of the study.
        unit: Unit of the property.
        coverage: Share that the interval promises.
        digest: Tells one saved ensemble from another.
    """

    name: str
    folder: str
    model: str
    version: str
    target: str
    unit: str
    coverage: float
    digest: str

    @property
    def column(self) -> str:
        """Name of the property's column in tables."""
        return self.name.replace(".", "_")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a JSON file."""
        return asdict(self)


def resolve_properties(request: ScreenRequest, uri: str | None = None) -> tuple[PropertyModel, ...]:
    """Find the model of every property: a folder that the request names, or a registered version.

    Args:
        request: The screening.
        uri: Registry; that of the environment or the working folder if none is named.

    Raises:
        ScreeningError: A folder holds no saved model, or two properties have the same model.
        UnknownModelError: The registry has no such model, or none with the alias.
    """
    found = tuple(_resolve(name, request, uri) for name in request.properties)
    by_digest: dict[str, str] = {}
    for model in found:
        if (other := by_digest.setdefault(model.digest, model.name)) != model.name:
            raise ScreeningError(
                f"{other!r} and {model.name!r} are the same model ({model.model}). Leave one of them out."
            )
    return found


def _resolve(name: str, request: ScreenRequest, uri: str | None) -> PropertyModel:
    given = request.models.get(name, name)
    folder = Path(given).expanduser()
    if (folder / "model.json").is_file():
        return _described(name, folder.resolve(), str(folder), "")
    if folder.is_dir() or ("/" in given and not folder.exists()):
        raise ScreeningError(
            f"{given} (the model of {name!r}) holds no model.json. Name the folder that 'crossprop fit' wrote, a "
            "target's results/…/model, or a registered model."
        )
    from crossprop.tracking.registry import find_version, predictor_folder

    try:
        version = find_version(uri, given, alias=request.alias)
    except UnknownModelError as error:
        raise UnknownModelError(
            f"{error} Another version is screened with --alias, a saved model with --model {name}=FOLDER."
        ) from None
    local = predictor_folder(uri, version)
    return _described(name, local, version.name, version.version)


def _described(name: str, folder: Path, model: str, version: str) -> PropertyModel:
    try:
        info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        coverage = float(info["interval"]["coverage"])
        target, unit = str(info["target"]), str(info.get("unit") or "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScreeningError(f"{folder}/model.json is no saved model's: {error!r}.") from error
    return PropertyModel(name, str(folder), model, version, target, unit, coverage, _digest(folder))


def _digest(folder: Path) -> str:
    """Hash over the descriptions and over names and sizes of the other files: cheap, whatever a copy's times."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()


Ranges = dict[str, tuple[float, float]]


def known_compositions(
    properties: Iterable[PropertyModel], models: Mapping[str, ServedModel]
) -> frozenset[str]:
    """Keys of the compositions that stand in the data of any of the models, hold-outs included.

    Raises:
        ScreeningError: A model was saved without its data.
    """
    keys: set[str] = set()
    for model in properties:
        evidence = models[model.name].evidence
        if evidence is None:
            raise ScreeningError(
                f"The model of {model.name!r} ({model.model}) was saved without the data that it learnt from, so "
                "nobody can tell what is new. Make it again with this version of crossprop, or leave out --novel."
            )
        keys |= set(evidence["composition"])
    return frozenset(keys)


def value_ranges(properties: Iterable[PropertyModel], models: Mapping[str, ServedModel]) -> Ranges:
    """Least and greatest value in the data of every property whose model was saved with them, hold-outs included."""
    found: Ranges = {}
    for model in properties:
        if (known := KnownValues.of(models[model.name].evidence)) is not None:
            found[model.name] = (known.least, known.most)
    return found


def value_to_beat(name: str, more: bool, known: Ranges) -> float:
    """The best known value of a property.

    Raises:
        ScreeningError: The model was saved without its data.
    """
    if name not in known:
        raise ScreeningError(
            f"No value of {name!r} is known that an improvement could be measured from: its model was saved without "
            "its data, or it is no property of this screening. Give the value to beat with --best."
        )
    return known[name][1 if more else 0]
