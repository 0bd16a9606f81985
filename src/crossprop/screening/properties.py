"""The saved model behind each property of a screening."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan

from crossprop.errors import ScreeningError, UnknownModelError
from crossprop.inference.predictor import ServedModel
from crossprop.io import DIGESTS_FILE, file_digest
from crossprop.models.saved import read_info
from crossprop.screening.request import ScreenRequest
from crossprop.tracking.registry import saved_model
from crossprop.uncertainty.evidence import KnownValues


@dataclass(frozen=True)
class PropertyModel:
    """The model of one property.

    ``model`` is the registered name or the folder, ``digest`` that of the saved files. ``least``, ``most`` (values in
    the model's data) and ``mae`` (on the hold-out, else in cross-validation) are in ``unit``; they are NaN before
    the model is loaded.
    """

    name: str
    folder: str
    model: str
    version: str
    target: str
    unit: str
    coverage: float
    digest: str
    least: float = nan
    most: float = nan
    mae: float = nan

    @property
    def column(self) -> str:
        """Name of the property's column in tables."""
        return self.name.replace(".", "_")

    @property
    def known(self) -> KnownValues:
        """The values in the model's data."""
        return KnownValues(self.least, self.most, 0)

    def with_data_of(self, model: ServedModel) -> PropertyModel:
        """The same with what a loaded model tells about its data."""
        known, rows = KnownValues.of(model.evidence), model.evidence
        mae = model.holdout_mae or float((rows["y_true"] - rows["y_pred"]).abs().mean())
        return replace(self, least=known.least, most=known.most, mae=mae)


def resolve_properties(request: ScreenRequest, uri: str | None = None) -> tuple[PropertyModel, ...]:
    """Find the model of every property: a folder that the request names, or a version in the registry ``uri``."""
    found: dict[str, PropertyModel] = {}
    for name in request.properties:
        given = request.models.get(name, name)
        try:
            folder, registered = saved_model(uri, given, alias=request.alias)
        except UnknownModelError as error:
            raise UnknownModelError(
                f"{error} Screen another version with --alias, or a saved model with --model {name}=FOLDER."
            ) from None
        model, version = (registered.name, registered.version) if registered else (given, "")
        info, digest = read_info(folder), file_digest(folder / DIGESTS_FILE)
        if digest in found:
            raise ScreeningError(
                f"{found[digest].name!r} and {name!r} are the same model ({model}). Leave one of them out."
            )
        path, coverage = str(folder.resolve()), info["interval"]["coverage"]
        found[digest] = PropertyModel(name, path, model, version, info["target"], info["unit"], coverage, digest)
    return tuple(found.values())
