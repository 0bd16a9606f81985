"""The saved model behind each property of a screening."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from crossprop.errors import ScreeningError, UnknownModelError
from crossprop.inference.predictor import ServedModel
from crossprop.io import folder_digest
from crossprop.screening.request import ScreenRequest
from crossprop.uncertainty.evidence import KnownValues


@dataclass(frozen=True)
class PropertyModel:
    """The model of one property.

    ``model`` is the registered name or the folder, ``digest`` that of the saved files. ``least``, ``most`` (values in
    the model's data) and ``mae`` (on the hold-out, else in cross-validation) are in ``unit``, and ``None`` where the
    data were not saved.
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
        return None if self.least is None or self.most is None else KnownValues(self.least, self.most, 0)

    def with_unit(self, text: str) -> str:
        """The text with the unit behind it, if there is one."""
        return f"{text} {self.unit}" if self.unit and self.unit != "1" else text

    def with_data_of(self, model: ServedModel) -> PropertyModel:
        """The same with what a loaded model tells about its data."""
        known, rows = KnownValues.of(model.evidence), model.evidence
        if known is None or rows is None:
            return self
        mae = model.holdout_mae or float((rows["y_true"] - rows["y_pred"]).abs().mean())
        return replace(self, least=known.least, most=known.most, mae=mae)


def resolve_properties(request: ScreenRequest, uri: str | None = None) -> tuple[PropertyModel, ...]:
    """Find the model of every property: a folder that the request names, or a version in the registry ``uri``."""
    found: dict[str, PropertyModel] = {}
    for name in request.properties:
        given = request.models.get(name, name)
        folder, model, version = Path(given).expanduser(), given, ""
        if not (folder / "model.json").is_file():
            if folder.is_dir() or "/" in given:
                raise ScreeningError(
                    f"{given} (the model of {name!r}) holds no model.json. Name a folder of 'crossprop fit', or a "
                    "registered model."
                )
            from crossprop.tracking.registry import find_version, predictor_folder

            try:
                registered = find_version(uri, given, alias=request.alias)
            except UnknownModelError as error:
                raise UnknownModelError(
                    f"{error} Screen another version with --alias, or a saved model with --model {name}=FOLDER."
                ) from None
            folder, model, version = predictor_folder(uri, registered), registered.name, registered.version
        try:
            info = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            coverage = float(info["interval"]["coverage"])
            target, unit = str(info["target"]), str(info.get("unit") or "")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScreeningError(
                f"{folder}/model.json does not describe a saved model: {error!r}. Name another folder with --model."
            ) from error
        digest = folder_digest(folder)
        if digest in found:
            raise ScreeningError(
                f"{found[digest].name!r} and {name!r} are the same model ({model}). Leave one of them out."
            )
        path = str(folder.resolve())
        found[digest] = PropertyModel(name, path, model, version, target, unit, coverage, digest)
    return tuple(found.values())


def known_compositions(models: Mapping[str, ServedModel]) -> frozenset[str]:
    """Keys of the compositions in the data of any of the models; an error if one was saved without its data."""
    keys: set[str] = set()
    for name, model in models.items():
        if model.evidence is None:
            raise ScreeningError(
                f"The model of {name!r} was saved without its training data, so what is new is unknown. Fit it again, "
                "or leave out --novel."
            )
        keys |= set(model.evidence["composition"])
    return frozenset(keys)
