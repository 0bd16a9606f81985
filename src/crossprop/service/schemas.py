"""Requests and answers of the REST API, as pydantic reads them and the OpenAPI document describes them."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _whole(value: object) -> object:
    """Whole numbers as JSON knows them: 3 and 3.0, but neither true nor a text."""
    if isinstance(value, bool | str):
        raise ValueError("must be a whole number")
    return value


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


Name = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float | None, BeforeValidator(_finite)]
"""A number, or null where it is unknown or not finite."""


class PredictRequest(BaseModel):
    """Formulas and the properties to predict."""

    model_config = ConfigDict(extra="forbid")
    formulas: list[Any] = Field(
        min_length=1,
        description="Such as `Fe2O3` or `Fe0.5Ni0.5`. A formula that cannot be parsed gets its own error.",
    )
    properties: list[Name] = Field(
        min_length=1, max_length=200, description="Names as in `/v1/properties`, or `<study>.<target>`."
    )
    nearest: Annotated[int, BeforeValidator(_whole)] = Field(
        default=0, ge=0, le=10, description="Number of nearest training compositions with each prediction."
    )
    amounts: Literal["atomic", "weight"] = Field(
        default="atomic",
        description="`weight` for weight percents (sum 100, such as `Ti-6Al-4V`) or weight fractions (sum 1).",
    )


class Problem(BaseModel):
    """What is wrong, and what to do next."""

    type: str = Field(description="Kind of the error.", examples=["FormulaError"])
    message: str = Field(description="What is wrong, and what to do next.")


class ErrorAnswer(BaseModel):
    """The answer if the whole request fails."""

    error: Problem


class Neighbour(BaseModel):
    """A training composition near the requested one."""

    formula: str = Field(description="A training composition.")
    value: Number = Field(description="Its known value, in the property's unit.")
    distance: Number = Field(
        description="0 is the same composition, 1 the edge of the training domain; null if it has no edge."
    )


class Prediction(BaseModel):
    """One property of one formula."""

    value: Number = Field(description="In the property's unit.")
    lower: Number = Field(description="Lower end of the interval.")
    upper: Number = Field(description="Upper end of the interval.")
    in_domain: bool = Field(description="Whether the composition lies within the training domain.")
    note: str = Field(description="Why it is outside the domain; whether the value is beyond all known ones.")
    nearest: list[Neighbour] = Field(description="As many as requested, the nearest first.")


class Result(BaseModel):
    """Predictions of one formula; results have the order of the request."""

    formula: str = Field(description="The formula as it was sent, cut after 200 characters.")
    error: Problem | None = Field(description="Why there are no predictions; null if there are.")
    predictions: dict[str, Prediction] = Field(description="By property; empty where there is an error.")


class AnsweredBy(BaseModel):
    """The model that answered for a property."""

    model: str = Field(description="Registered model.", examples=["jarvis.bulkmoduluskv"])
    version: str = Field(description="Its version.", examples=["1"])
    method: str = Field(description="Method of the model.")
    unit: str = Field(description="Unit of value, lower and upper.")
    coverage: Number = Field(description="Nominal coverage of the intervals.")


class PredictAnswer(BaseModel):
    """Predictions."""

    results: list[Result]
    models: dict[str, AnsweredBy]


class CoverageInfo(BaseModel):
    """Coverage of the intervals."""

    stated: Number = Field(default=None, description="Nominal coverage of the intervals.")
    measured: Number = Field(default=None, description="Coverage on the hold-out.")


Status = Literal["ready", "loading", "degraded", "unavailable"]


class ModelMetadata(BaseModel):
    """What is known of a version of a model."""

    label: str = Field(description="Short name; the description where several properties share it.")
    description: str = Field(description="What the property is.")
    unit: str = Field(description="Unit of its values.")
    method: str = Field(description="Method of the model.")
    holdout_mae: Number = Field(default=None, description="MAE on the hold-out, in the property's unit.")
    holdout_r2: Number = Field(default=None, description="Coefficient of determination on the hold-out.")
    holdout_rows: int = Field(default=0, description="Rows of the hold-out.")
    training_rows: int = Field(default=0, description="Rows of the training set.")
    coverage: CoverageInfo = CoverageInfo()


class PropertyInfo(ModelMetadata):
    """A property that is served."""

    name: str = Field(description="Its name in requests.", examples=["bulkmoduluskv"])
    model: str = Field(description="Registered model that answers.", examples=["jarvis.bulkmoduluskv"])
    version: str = Field(description="Its version.", examples=["1"])
    status: Status = Field(description="`degraded`: an older model answers.")
    status_note: str = Field(description="Why it is not ready; or an empty text.")


class PropertiesAnswer(BaseModel):
    """All properties that are served."""

    properties: list[PropertyInfo]


class ParityAnswer(BaseModel):
    """True and predicted values of the hold-out, at most 2,000 points, drawn evenly."""

    name: str = Field(description="Property.")
    version: str = Field(description="Version of the model.")
    unit: str = Field(description="Unit of all values here.")
    mae: Number = Field(description="Mean absolute error on the whole hold-out.")
    formulas: list[str] = Field(description="Compositions of the points.")
    y_true: list[Number] = Field(description="True values, in the same order.")
    y_pred: list[Number] = Field(description="Predicted values, in the same order.")


class VersionNote(BaseModel):
    """One version of a registered model."""

    version: str = Field(description="Number of the version.")
    aliases: list[str] = Field(description="Its aliases.")
    method: str = Field(description="Method of the model.")
    holdout_mae: Number = Field(description="MAE on the hold-out, in its unit.")
    unit: str = Field(description="Unit of its values.")
    created: str = Field(description="When it was registered, in ISO 8601.")
    commit: str = Field(description="Git commit that it was trained with.")
    data_hash: str = Field(description="Hash of the prepared data.")


class ModelNote(BaseModel):
    """A registered model with its champion, former champion and challenger, and the version that is served."""

    model: str = Field(description="Name of the registered model.")
    property: str | None = Field(description="Its name in requests; null where it is not served.")
    unit: str = Field(description="Unit of the values of the newest version.")
    champion: VersionNote | None
    previous: VersionNote | None
    challenger: VersionNote | None
    versions: int = Field(description="How many versions there are.")
    served: str | None = Field(description="Version that answers now.")
    status: Status | None = Field(description="As in `/v1/properties`.")
    status_note: str = Field(description="Why it is not ready; or an empty text.")


class RegistryState(BaseModel):
    """The registry as the service sees it."""

    where: str = Field(description="Address of the registry, without passwords.")
    up: bool = Field(description="Whether it answered last time.")
    note: str = Field(description="What is wrong with it; or an empty text.")


class ModelsAnswer(BaseModel):
    """Every registered model."""

    models: list[ModelNote]
    registry: RegistryState


class HealthAnswer(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(BaseModel):
    """At least one property is served."""

    status: Literal["ready"] = "ready"
    properties: int = Field(description="How many properties can be predicted now.")
    note: str = Field(description="What is wrong nevertheless; or an empty text.")


class RefreshAnswer(BaseModel):
    """The registry was polled."""

    properties: int = Field(description="How many properties are served.")
    registry: RegistryState
