"""What goes in and comes out, as the service reads it and as its OpenAPI document describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _whole(value: object) -> object:
    """Whole numbers as JSON knows them: 3 and 3.0, but neither true nor a text."""
    if isinstance(value, bool | str):
        raise ValueError("must be a whole number")
    return value


_Name = Annotated[str, Field(min_length=1, max_length=200)]


class PredictRequest(BaseModel):
    """Formulas and the properties to predict."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"formulas": ["Fe2O3", "NaCl"], "properties": ["bulkmoduluskv"], "nearest": 3}]
        },
    )
    formulas: Annotated[
        list[Any],
        Field(
            min_length=1,
            description="Chemical formulas such as `Fe2O3`, `Ca(Al2[SiO4]2)` or `Fe0.5Ni0.5`. Whatever is no formula "
            "gets an error of its own in its result; the others are answered.",
        ),
    ]
    properties: Annotated[
        list[_Name],
        Field(
            min_length=1,
            max_length=200,
            description="Names as in `/v1/properties`; a registered model's `<study>.<target>` is understood as well.",
        ),
    ]
    nearest: Annotated[
        int,
        Field(
            ge=0,
            le=10,
            description="How many of the nearest training compositions to give with each prediction.",
        ),
        BeforeValidator(_whole),
    ] = 0


class Problem(BaseModel):
    """What is wrong, and what to do next."""

    type: str = Field(description="Kind of the error.", examples=["FormulaError"])
    message: str = Field(description="What is wrong, and what to do next.")


class ErrorAnswer(BaseModel):
    """An answer that is an error."""

    error: Problem


class Neighbour(BaseModel):
    """A training composition near the one asked for."""

    formula: str = Field(description="A training composition.")
    value: float | None = Field(description="Its known value, in the property's unit.")
    distance: float | None = Field(
        description="Distance in the space of element properties, without unit; 0 is the same composition."
    )


class Prediction(BaseModel):
    """One property of one formula."""

    value: float | None = Field(description="In the property's unit.")
    lower: float | None = Field(description="Lower end of the interval.")
    upper: float | None = Field(description="Upper end of the interval.")
    in_domain: bool = Field(
        description="Whether the model may know: the composition is like those it learnt from."
    )
    note: str = Field(
        description="Why not, and whether the value lies beyond all known ones; or an empty text."
    )
    nearest: list[Neighbour] = Field(description="As many as were asked for, the nearest first.")


class Result(BaseModel):
    """What became of one formula; results stand in the order of the request."""

    formula: str = Field(description="The item as it was sent, cut after 200 characters.")
    error: Problem | None = Field(description="Why there are no predictions; null where there are.")
    predictions: dict[str, Prediction] = Field(description="By property; empty if the item is no formula.")


class AnsweredBy(BaseModel):
    """The model that answered for a property."""

    model: str = Field(description="Registered model.", examples=["jarvis.bulkmoduluskv"])
    version: str = Field(description="Its version.", examples=["1"])
    method: str = Field(description="Method that it was learnt by.")
    unit: str = Field(description="Unit of value, lower and upper.")
    coverage: float | None = Field(description="Share of true values that the intervals promise to hold.")


class PredictAnswer(BaseModel):
    """Predictions."""

    results: list[Result]
    models: dict[str, AnsweredBy]


class CoverageInfo(BaseModel):
    """Coverage of the intervals: as promised, and as measured on the hold-out."""

    stated: float | None = Field(description="Share of true values that the intervals promise to hold.")
    measured: float | None = Field(description="Share of the hold-out's values that they held.")


Word = Literal["ready", "loading", "degraded", "unavailable"]


class PropertyInfo(BaseModel):
    """A property that is served."""

    name: str = Field(description="What requests call it.", examples=["bulkmoduluskv"])
    model: str = Field(description="Registered model that answers.", examples=["jarvis.bulkmoduluskv"])
    version: str = Field(description="Its version.", examples=["1"])
    label: str = Field(description="Short name.")
    description: str = Field(description="What the property is.")
    unit: str = Field(description="Unit of its values.")
    method: str = Field(description="Method that the model was learnt by.")
    holdout_mae: float | None = Field(
        description="Mean absolute error on the hold-out, in the property's unit."
    )
    holdout_rows: int = Field(description="Rows of the hold-out.")
    training_rows: int = Field(description="Rows that were learnt from.")
    coverage: CoverageInfo
    status: Word = Field(
        description="`ready`, `loading`, `degraded` (an older model answers) or `unavailable`."
    )
    status_note: str = Field(description="Why it is not ready; or an empty text.")


class PropertiesAnswer(BaseModel):
    """All properties that are served."""

    properties: list[PropertyInfo]


class ParityAnswer(BaseModel):
    """True and predicted values of the hold-out, at most 2,000 points, drawn evenly."""

    name: str = Field(description="Property.")
    unit: str = Field(description="Unit of all values here.")
    mae: float | None = Field(description="Mean absolute error on the whole hold-out.")
    formulas: list[str] = Field(description="Compositions of the points.")
    y_true: list[float | None] = Field(description="True values, in the same order.")
    y_pred: list[float | None] = Field(description="Predicted values, in the same order.")


class VersionNote(BaseModel):
    """One version of a registered model."""

    version: str = Field(description="Number of the version.")
    aliases: list[str] = Field(description="Its aliases.")
    method: str = Field(description="Method that it was learnt by.")
    holdout_mae: float | None = Field(
        description="Mean absolute error on the hold-out, in the property's unit."
    )
    created: str = Field(description="When it was registered, in ISO 8601.")
    commit: str = Field(description="Git commit that it was learnt with.")
    data_hash: str = Field(description="Hash of the prepared data.")


class ModelNote(BaseModel):
    """A registered model: who is champion, who was, who wants to be, and what is served."""

    model: str = Field(description="Name of the registered model.")
    property: str | None = Field(description="What requests call it; null where it is not served.")
    unit: str = Field(description="Unit of its values.")
    champion: VersionNote | None
    previous: VersionNote | None
    challenger: VersionNote | None
    versions: int = Field(description="How many versions there are.")
    served: str | None = Field(description="Version that answers now.")
    status: Word | None = Field(description="As in `/v1/properties`.")
    status_note: str = Field(description="Why it is not ready; or an empty text.")


class RegistryNote(BaseModel):
    """The registry as the service sees it."""

    where: str = Field(description="Address of the registry, without passwords.")
    up: bool = Field(description="Whether it answered last time.")
    note: str = Field(description="What is wrong with it; or an empty text.")


class ModelsAnswer(BaseModel):
    """Every registered model."""

    models: list[ModelNote]
    registry: RegistryNote


class HealthAnswer(BaseModel):
    """The process lives."""

    status: Literal["ok"] = "ok"


class ReadyAnswer(BaseModel):
    """At least one property is served."""

    status: Literal["ready"]
    properties: int = Field(description="How many properties can be predicted now.")
    note: str = Field(description="What is wrong in spite of that; or an empty text.")


class RefreshAnswer(BaseModel):
    """The registry was looked at."""

    properties: int = Field(description="How many properties are served.")
    registry: RegistryNote
