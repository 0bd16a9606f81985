"""Everything that a screening needs, checked and loaded: what is cheap to refuse is refused first."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from crossprop.inference.predictor import ServedModel
from crossprop.screening import run
from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.conditions import Conditions, bounded_property, read_objectives
from crossprop.screening.listed import read_formulas
from crossprop.screening.pipeline import Calibration, Count, Pipeline, calibrate, count_possible
from crossprop.screening.properties import (
    PropertyModel,
    known_compositions,
    resolve_properties,
    value_ranges,
    value_to_beat,
)
from crossprop.screening.rank import Ranker
from crossprop.screening.request import ScreenRequest, resolve_elements
from crossprop.screening.result import RESULTS, begun_before, identity_of, read_progress
from crossprop.screening.run import Screening
from crossprop.screening.space import ElementSpace, Space


def prepare(request: ScreenRequest, uri: str | None = None) -> Screening:
    """Check a request, load its models, count its compositions and estimate the time.

    Args:
        request: What is to be screened.
        uri: Registry; that of the environment or the working folder if none is named.

    Raises:
        ScreeningError: The request cannot be met, or its folder holds another screening.
        ExpressionError: A condition or a quantity is none.
        UnknownModelError: The registry has no such model.
        ModelFormatError: A model is incomplete or damaged.
    """
    conditions = Conditions.read(request.where, request.in_domain, request.properties)
    default = bounded_property(conditions, request.properties) or (request.properties[0], True)
    objectives = read_objectives(request.objectives or (default,), request.properties)
    space, chemistry = make_space(request), make_chemistry(request)
    properties = resolve_properties(request, uri)
    identity = identity_of(request, properties, space.total)
    before = begun_before(request.out, identity)
    ready = Screening(
        request=request,
        identity=identity,
        pipeline=None,
        ranker=Ranker("value", objectives[:1], properties, request.top),
        count=Count(space.total, True),
        calibration=Calibration(request.properties, 0.0, 0.0, 0),
        known={} if before is None else {k: tuple(v) for k, v in before["known"].items()},
        workers=request.workers or run.cores(),
        limit=run.allowed(request.memory),
        done=read_progress(request.out),
    )
    if before is None or before["status"] != "finished" or not (request.out / RESULTS).is_file():
        models = _load(properties)
        known = known_compositions(properties, models) if request.novel else frozenset()
        ready = replace(ready, known=value_ranges(properties, models))
        pipeline = Pipeline(
            space, properties, models, request.properties, conditions, chemistry, known, request.batch
        )
        ready = _planned(ready, pipeline, (before or {}).get("plan"))
    best = request.best
    if request.ranking == "ei" and best is None:
        best = value_to_beat(objectives[0][0].text, objectives[0][1], ready.known)
    return replace(
        ready, ranker=Ranker(request.ranking, objectives, properties, request.top, best, request.per_system)
    )


def make_space(request: ScreenRequest) -> Space:
    """The compositions of a request."""
    if request.input is not None:
        return read_formulas(request.input)
    return ElementSpace(
        elements=tuple(e for e in resolve_elements(request.elements) if e not in request.exclude),
        must=request.must_contain,
        min_elements=request.min_elements,
        max_elements=request.max_elements,
        max_atoms=request.atoms,
        max_amount=request.max_amount or request.atoms,
        parts=None if request.fractions is None else round(1 / request.fractions),
    )


def make_chemistry(request: ScreenRequest) -> ChargeBalance | None:
    """The chemical rules of a request, ``None`` where everything is possible."""
    if not request.charge_balanced:
        return None
    return ChargeBalance(request.oxidation_states, request.pauling, request.alloys, request.mixed_valence)


def _load(properties: tuple[PropertyModel, ...]) -> dict[str, ServedModel]:
    """The models of the properties, side by side; each predicts with one thread, since batches run in parallel."""
    with ThreadPoolExecutor(len(properties)) as threads:
        loaded = list(threads.map(lambda model: ServedModel.load(model.folder, threads=1), properties))
    return {model.name: served for model, served in zip(properties, loaded, strict=True)}


def _planned(ready: Screening, pipeline: Pipeline, plan: Mapping[str, Any] | None) -> Screening:
    """Count, measure a sample, and choose order, threads and rows by it; what was begun keeps its order and count."""
    calibration = calibrate(pipeline, None if plan is None else tuple(plan["order"]), ready.workers)
    before = run.resident()
    middle = pipeline.space.total // 2
    pipeline.run(middle, middle + pipeline.rows)
    per_batch = max(run.resident() - before, 1 << 20)
    workers, rows = run.fitting(ready.workers, pipeline.rows, per_batch, ready.limit)
    return replace(
        ready,
        pipeline=replace(pipeline, order=calibration.order, rows=rows),
        count=count_possible(pipeline.space, pipeline.chemistry) if plan is None else Count(**plan["count"]),
        calibration=replace(calibration, seconds=calibration.seconds * ready.workers / workers),
        workers=workers,
    )
