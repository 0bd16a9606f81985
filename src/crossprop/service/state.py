"""The parts of one running service, and what it says of its models."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crossprop.errors import CrosspropError
from crossprop.service.logs import event
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Loader, ModelCache, RegistryPoller, ServedProperty, in_thread
from crossprop.service.prediction import Predictor
from crossprop.service.schemas import ModelNote, PropertyInfo, VersionNote
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import ModelSource
from crossprop.tracking.registry import ModelInfo, VersionInfo

LOADERS = 2  # models that are loaded at a time


class Service:
    """The parts of a service."""

    def __init__(self, settings: ServiceSettings, source: ModelSource, load: Loader) -> None:
        self.settings = settings
        self.source = source
        self.metrics = Metrics()
        self.cache = ModelCache(source, load, settings, self.metrics)
        self.poller = RegistryPoller(self.cache, settings, self.metrics)
        self.predictor = Predictor(self.cache, settings.threads, settings.limits, self.metrics)
        self._listed: list[ModelInfo] = []
        self._listed_at = -1e9
        self._listing = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll the registry and load models for as long as the block runs."""
        loaders = [self.cache.keep_loading() for _ in range(LOADERS)]
        tasks = [asyncio.create_task(work) for work in (self.poller.run(), *loaders)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.predictor.close()

    @property
    def answering(self) -> int:
        """Number of properties for which a version answers."""
        return sum(
            one.served is not None and one.status[0] != "unavailable"
            for one in self.cache.properties.values()
        )

    @property
    def advice(self) -> str:
        """Why nothing is served yet, and what to do."""
        settings, properties = self.settings, self.cache.properties
        if not self.poller.state.up:
            return f"Nothing is served: {self.poller.state.note}"
        if not properties:
            of = f" of study {settings.study!r}" if settings.study else ""
            named = f" among {', '.join(settings.properties)}" if settings.properties else ""
            return (
                f"No model{of}{named} has the alias {settings.alias!r}. Give it to one with 'crossprop promote "
                "<target>' ('crossprop models' lists them), or serve a folder with --model; this service will notice."
            )
        unavailable = [one.status[1] for one in properties.values() if one.status[0] == "unavailable"]
        if unavailable:
            return f"None of {len(properties)} models can be served: {unavailable[0]}"
        return f"{len(properties)} models are being loaded. Ask again in a few seconds."

    def properties(self) -> list[PropertyInfo]:
        """What can be predicted; nothing is loaded for it."""
        return [
            PropertyInfo(
                **one.shown.metadata.model_dump(),
                name=name,
                model=one.model,
                version=one.shown.info.version,
                status=one.status[0],
                status_note=one.status[1],
            )
            for name, one in sorted(self.cache.names.items())
        ]

    async def models(self) -> list[ModelNote]:
        """Every registered model; the registry is asked at most once per ``poll_seconds``."""
        names = {one.model: name for name, one in self.cache.names.items()}
        models = {model.name: model for model in await self._list()}
        for one in self.cache.properties.values():  # served from a folder, or while the registry is down
            models.setdefault(one.model, _model_of(one.shown.info))
        return [
            _model_note(models[name], self.cache.properties.get(name), names.get(name))
            for name in sorted(models)
        ]

    async def _list(self) -> list[ModelInfo]:
        async with self._listing:
            if time.monotonic() - self._listed_at >= self.settings.poll_seconds:
                try:
                    self._listed = list(await in_thread(self.source.everything))
                except CrosspropError as error:
                    event("the registry cannot be listed", logging.WARNING, error=str(error)[:300])
                self._listed_at = time.monotonic()
            return self._listed


def _model_of(info: VersionInfo) -> ModelInfo:
    """A model of which only one version is known."""
    aliases = dict.fromkeys(info.aliases, info.version)
    return ModelInfo(info.name, info.study, info.target, info.unit, info.description, aliases, (info,), {})


def _model_note(model: ModelInfo, one: ServedProperty | None, name: str | None) -> ModelNote:
    status, note = one.status if one else (None, "")
    return ModelNote(
        model=model.name,
        property=name,
        unit=model.unit,
        champion=_version_note(model.holder("champion")),
        previous=_version_note(model.holder("previous")),
        challenger=_version_note(model.holder("challenger")),
        versions=len(model.versions),
        served=one.served.info.version if one and one.served else None,
        status=status,
        status_note=note,
    )


def _version_note(info: VersionInfo | None) -> VersionNote | None:
    if info is None:
        return None
    return VersionNote(
        version=info.version,
        aliases=list(info.aliases),
        method=info.method,
        holdout_mae=info.holdout_mae,
        created=info.created.isoformat(timespec="seconds"),
        commit=info.tags.get("crossprop.git_commit", ""),
        data_hash=info.tags.get("crossprop.data_hash", ""),
    )
