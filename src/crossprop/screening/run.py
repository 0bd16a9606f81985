"""A screening from the request to the ranked table."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from shutil import rmtree
from typing import Any

import psutil
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from crossprop import __version__
from crossprop.errors import ScreeningError
from crossprop.inference.predictor import ServedModel
from crossprop.io import atomic_file, exclusive, usable_cores
from crossprop.screening import result
from crossprop.screening.batches import GIB, Batch, check_memory, in_threads, on_cluster, resident
from crossprop.screening.chemistry import ChargeBalance
from crossprop.screening.conditions import bounded_property, parse_expression, read_conditions
from crossprop.screening.pipeline import Count, Pipeline, calibrate, count_possible, schema
from crossprop.screening.properties import PropertyModel, resolve_properties
from crossprop.screening.rank import Ranker
from crossprop.screening.request import ScreenRequest
from crossprop.screening.space import ElementSpace, ListedSpace, Space, read_formulas
from crossprop.screening.summary import progress_bar
from crossprop.training.device import peak_memory

_FORMAT = 3
_AHEAD = 2  # batches in flight for each worker, so that none waits for the disk
_MOST_POSITIONS = 1 << 18


def make_space(request: ScreenRequest) -> Space:
    """The compositions of a request."""
    if request.input is not None:
        return read_formulas(request.input, request.formula_column, request.sheet, request.amounts)
    return ElementSpace(
        tuple(e for e in request.elements if e not in request.exclude),
        request.must_contain,
        request.min_elements,
        request.max_elements,
        request.atoms,
        request.max_amount or request.atoms,
        parts=None if request.fractions is None else round(1 / request.fractions),
    )


def prepare(request: ScreenRequest, uri: str | None = None) -> Screening:
    """Check a request, load its models, count its compositions and estimate the time."""
    conditions = read_conditions(request.where, request.in_domain, request.properties)
    default = bounded_property(conditions, request.properties) or (request.properties[0], True)
    objectives = tuple(
        (parse_expression(text, request.properties, "number")[0], more)
        for text, more in request.objectives or (default,)
    )
    space = make_space(request)
    properties = resolve_properties(request, uri)
    digests = {model.name: model.digest for model in properties}
    identity = {"format": _FORMAT, **request.identity(), "models": digests, "positions": space.total}
    note = result.note_of_same(request.out, identity)
    workers = request.workers or usable_cores()
    if request.executor == "ray":
        workers = min(workers, usable_cores())  # the sample is computed here
    pipeline, count, seconds = None, Count(space.total, True), 0.0
    if note is not None and note["status"] == "finished" and (request.out / result.RESULTS).is_file():
        properties = tuple(PropertyModel(**note["models"][name]) for name in request.properties)
    else:
        with ThreadPoolExecutor(len(properties)) as threads:
            # Each model predicts with one thread, since batches run in parallel.
            loaded = threads.map(lambda model: ServedModel.load(model.folder, threads=1), properties)
            models = dict(zip(request.properties, loaded, strict=True))
        properties = tuple(model.with_data_of(models[model.name]) for model in properties)
        rules = (request.oxidation_states, request.pauling, request.alloys, request.mixed_valence)
        chemistry = ChargeBalance(*rules) if request.charge_balanced else None
        known = [model.evidence["composition"] for model in models.values() if request.novel]
        names, rows = request.properties, request.batch
        left_out = frozenset[str]().union(*known)
        pipeline = Pipeline(space, properties, models, names, conditions, chemistry, left_out, rows)
    ranker = Ranker(request, objectives, properties)
    if pipeline is not None:
        plan = None if note is None else note["plan"]  # what was begun keeps its order and count
        # Batches run in parallel: further threads of BLAS would only wait for cores.
        with threadpool_limits(limits=1):
            order, seconds = calibrate(pipeline, None if plan is None else tuple(plan["order"]), workers)
        pipeline = replace(pipeline, order=order)
        count = Count(**plan["count"]) if plan else count_possible(space, pipeline.chemistry)
    done = result.read_parts(request.out)[1]
    return Screening(request, identity, pipeline, ranker, count, seconds, workers, done)


@dataclass(frozen=True)
class Screening:
    """A screening that is ready to run."""

    request: ScreenRequest
    identity: dict[str, Any]  # values that must be the same for it to be continued later
    pipeline: Pipeline | None  # ``None`` where only the ranking is left
    ranker: Ranker
    count: Count  # compositions that the chemistry lets pass
    seconds_each: float  # estimated wall time of one of them
    workers: int  # threads of this process
    done: result.Progress  # of earlier sessions

    @property
    def positions(self) -> int:
        """Positions of the space."""
        return int(self.identity["positions"])

    @property
    def seconds(self) -> float:
        """Estimate of the time that is left."""
        return self.seconds_each * self.count.compositions * (1 - self.done.stop / self.positions)

    def run(self, progress: bool = True) -> result.ScreenResult:
        """Run it, or continue it; whatever stops it, what is done is kept."""
        folder, pipeline, ranker = self.request.out, self.pipeline, self.ranker
        with exclusive(folder / ".lock", f"is screening into {folder}", ScreeningError):
            note = result.note_of_same(folder, self.identity) or {}
            if note.get("status") == "finished" and (folder / result.RESULTS).is_file():
                pipeline = None  # another process has finished it meanwhile
            if pipeline is not None:
                workers = self.workers
                note = self._begun(pipeline, note)
                result.write_note(folder, note)
                if not (folder / result.RESULTS).is_file():
                    workers = self._predict(pipeline, progress)
                    result.write_results(folder, schema(pipeline.properties), self.positions)
                done = result.read_parts(folder)[1]
                note |= {
                    "status": "finished",
                    "finished": _now(),
                    "counts": {"positions": self.positions, "predicted": done.considered, "kept": done.kept},
                    "order": list(pipeline.order),
                    "seconds": round(done.seconds, 3),
                    "predicted_per_second": round(done.considered / max(done.seconds, 1e-9), 1),
                    "workers": workers,
                    "batch": pipeline.rows,
                    "peak_memory_gib": round(peak_memory() / GIB, 3),
                }
            top = ranker.rank(result.read_results(folder))
            with atomic_file(folder / result.TOP) as draft:
                top.to_csv(draft, index=False, float_format="%.6g")
            note["ranking"] = {
                "rank": ranker.kind,
                "objectives": [
                    {"quantity": quantity.text, "goal": "maximize" if more else "minimize"}
                    for quantity, more in ranker.objectives
                ],
                "best": ranker.best,
                "rows": len(top),
            }
            result.write_note(folder, note)
            rmtree(folder / result.PARTS, ignore_errors=True)
        return result.ScreenResult(folder, note, top)

    def _begun(self, pipeline: Pipeline, before: dict[str, Any]) -> dict[str, Any]:
        """Content of ``screen.json`` while it runs."""
        space, left_out = pipeline.space, None
        if isinstance(space, ListedSpace):
            left_out = {"repeated": space.repeated, "no_formula": space.n_bad, "first": list(space.bad)}
        return {
            "status": "running",
            "crossprop": __version__,
            "begun": before.get("begun", _now()),
            "sessions": before.get("sessions", 0) + 1,
            "request": self.request.model_dump(mode="json"),
            "models": {model.name: asdict(model) for model in pipeline.properties},
            "plan": {"order": list(pipeline.order), "count": self.count._asdict()},
            "left_out": left_out,
            "identity": self.identity,
        }

    def _predict(self, pipeline: Pipeline, progress: bool) -> int:
        """Write the parts that are missing, and tell how many workers there were."""
        folder, total, gib = self.request.out, self.positions, self.request.memory
        limit = resident() + psutil.virtual_memory().available // 2 if gib is None else int(gib * GIB)
        share = max(self.count.compositions, 1) / total
        # About one batch of possible compositions:
        step = max(1, min(round(pipeline.rows / share), _MOST_POSITIONS))
        done = result.begin_parts(folder)
        begun = time.monotonic() - done.seconds
        position, in_flight = done.stop, 1
        waiting: deque[tuple[int, Batch]] = deque()
        ray = self.request.executor == "ray"
        where = on_cluster(pipeline, self.request) if ray else in_threads(pipeline, self.workers)
        with progress_bar(total, done.stop, progress) as report, where as (submit, workers):
            while waiting or position < total:
                while len(waiting) < in_flight and position < total:
                    stop = min(position + step, total)
                    waiting.append((stop, submit(position, stop)))
                    position = stop
                stop, batch = waiting.popleft()
                considered, kept = batch()
                counts = (done.considered + considered, done.kept + kept.num_rows)
                after = result.Progress(stop, *counts, seconds=time.monotonic() - begun)
                result.write_part(folder, kept, done.stop, after)
                done = after
                report(done.stop, done.kept)
                in_flight = self._batches_in_flight(in_flight, workers(), limit)
            return workers()

    def _batches_in_flight(self, before: int, workers: int, limit: int) -> int:
        """One more than before while the memory suffices, one where it does not."""
        now = resident()
        if now <= limit:
            return min(before + 1, _AHEAD * workers)
        if before == 1:
            check_memory(now, self.request.memory)
        return 1


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
