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

    type: str = Field(examples=["FormulaError"])
    message: str


class ErrorAnswer(BaseModel):
    """An answer that is an error."""

    error: Problem


class Neighbour(BaseModel):
    """A training composition near the one asked for."""

    formula: str
    value: float | None
    distance: float | None


class Prediction(BaseModel):
    """One property of one formula."""

    value: float | None = Field(description="In the property's unit.")
    lower: float | None = Field(description="Lower end of the interval.")
    upper: float | None = Field(description="Upper end of the interval.")
    in_domain: bool = Field(
        description="Whether the model may know: the composition is like those it learnt from."
    )
    note: str = Field(description="Why not, or an empty text.")
    nearest: list[Neighbour]


class Result(BaseModel):
    """What became of one formula; results stand in the order of the request."""

    formula: str = Field(description="The item as it was sent, cut after 200 characters.")
    error: Problem | None
    predictions: dict[str, Prediction] = Field(description="By property; empty if the item is no formula.")


class AnsweredBy(BaseModel):
    """The model that answered for a property."""

    model: str = Field(examples=["jarvis.bulkmoduluskv"])
    version: str = Field(examples=["1"])
    method: str
    unit: str
    coverage: float | None = Field(description="Share of true values that the intervals promise to hold.")


class PredictAnswer(BaseModel):
    """Predictions."""

    results: list[Result]
    models: dict[str, AnsweredBy]


class CoverageInfo(BaseModel):
    """Coverage of the intervals: as promised, and as measured on the hold-out."""

    stated: float | None
    measured: float | None


Word = Literal["ready", "loading", "degraded", "unavailable"]


class PropertyInfo(BaseModel):
    """A property that is served."""

    name: str = Field(examples=["bulkmoduluskv"])
    model: str = Field(examples=["jarvis.bulkmoduluskv"])
    version: str = Field(examples=["1"])
    label: str
    description: str
    unit: str
    method: str
    holdout_mae: float | None = Field(
        description="Mean absolute error on the hold-out, in the property's unit."
    )
    holdout_rows: int
    training_rows: int
    coverage: CoverageInfo
    status: Word
    status_note: str


class PropertiesAnswer(BaseModel):
    """All properties that are served."""

    properties: list[PropertyInfo]


class ParityAnswer(BaseModel):
    """True and predicted values of the hold-out, at most 2,000 points, drawn evenly."""

    name: str
    unit: str
    mae: float | None
    formulas: list[str]
    y_true: list[float | None]
    y_pred: list[float | None]


class VersionNote(BaseModel):
    """One version of a registered model."""

    version: str
    aliases: list[str]
    method: str
    holdout_mae: float | None
    created: str
    commit: str
    data_hash: str


class ModelNote(BaseModel):
    """A registered model: who is champion, who was, who wants to be, and what is served."""

    model: str
    property: str | None
    unit: str
    champion: VersionNote | None
    previous: VersionNote | None
    challenger: VersionNote | None
    versions: int
    served: str | None = Field(description="Version that answers now.")
    status: Word | None
    status_note: str


class RegistryNote(BaseModel):
    """The registry as the service sees it."""

    where: str
    up: bool
    note: str


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
    properties: int
    note: str


class RefreshAnswer(BaseModel):
    """The registry was looked at."""

    properties: int
    registry: RegistryNote
