"""The saved model behind each property of a screening."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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
        name: Name of the property in conditions and columns.
        folder: Saved ensemble.
        model: Registered name, or the folder where it is none.
        version: Number of the registered version, or an empty text.
        target: Target property of the study.
        unit: Unit of the property.
        coverage: Share of the values that the interval promises to contain.
        digest: Tells one saved ensemble from another.
        least: Least value in the model's data in ``unit``, hold-out included; ``None`` where the data were not saved.
        most: Greatest value in the data, likewise.
        mae: Mean absolute error on the hold-out, likewise.
    """

    name: str
    folder: str
    model: str
    version: str
    target: str
    unit: str
    coverage: float
    digest: str
    least: float | None = None
    most: float | None = None
    mae: float | None = None

    @property
    def column(self) -> str:
        """Name of the property's column in tables."""
        return self.name.replace(".", "_")

    @property
    def known(self) -> KnownValues | None:
        """The values in the model's data."""
        if self.least is None or self.most is None:
            return None
        return KnownValues(self.least, self.most, 0)

    def with_unit(self, text: str) -> str:
        """The text with the unit behind it, if there is one."""
        return f"{text} {self.unit}" if self.unit and self.unit != "1" else text

    def with_data_of(self, model: ServedModel) -> PropertyModel:
        """The same with what a loaded model tells about its data."""
        if (known := KnownValues.of(model.evidence)) is None:
            return self
        return replace(self, least=known.least, most=known.most, mae=model.holdout_mae)

    def with_data_in(self, noted: Mapping[str, Any]) -> PropertyModel:
        """The same with what an earlier session noted about the data."""
        return replace(self, **{key: noted[key] for key in ("least", "most", "mae")})

    def value_to_beat(self, more: bool) -> float:
        """The best value in the model's data.

        Raises:
            ScreeningError: The model was saved without its data.
        """
        best = self.most if more else self.least
        if best is None:
            raise ScreeningError(
                f"The model of {self.name!r} ({self.model}) was saved without its data, so no value is known to "
                "improve on. Give the value to beat with --best."
            )
        return best


def resolve_properties(request: ScreenRequest, uri: str | None = None) -> tuple[PropertyModel, ...]:
    """Find the model of every property: a folder that the request names, or a version in the registry ``uri``.

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
            f"{error} Screen another version with --alias, or a saved model with --model {name}=FOLDER."
        ) from None
    return _described(name, predictor_folder(uri, version), version.name, version.version)


def _described(name: str, folder: Path, model: str, version: str) -> PropertyModel:
    try:
        info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        coverage = float(info["interval"]["coverage"])
        target, unit = str(info["target"]), str(info.get("unit") or "")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScreeningError(
            f"{folder}/model.json does not describe a saved model: {error!r}. Name another folder with --model."
        ) from error
    return PropertyModel(name, str(folder), model, version, target, unit, coverage, _digest(folder))


def _digest(folder: Path) -> str:
    """Hash of the JSON files and of the names and sizes of the others: cheap, and the same for a copy."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()


def known_compositions(
    properties: Iterable[PropertyModel], models: Mapping[str, ServedModel]
) -> frozenset[str]:
    """Keys of the compositions in the data of any of the models, hold-outs included.

    Raises:
        ScreeningError: A model was saved without its data.
    """
    keys: set[str] = set()
    for model in properties:
        evidence = models[model.name].evidence
        if evidence is None:
            raise ScreeningError(
                f"The model of {model.name!r} ({model.model}) was saved without its training data, so new "
                "compositions cannot be told from known ones. Fit it again with this version of crossprop, or leave "
                "out --novel."
            )
        keys |= set(evidence["composition"])
    return frozenset(keys)
