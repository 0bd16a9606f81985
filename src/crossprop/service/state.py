"""The parts of one running service: what the registry wants served, and what is said of its models."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from crossprop.errors import CrosspropError
from crossprop.service.logs import event
from crossprop.service.metrics import Metrics
from crossprop.service.model_cache import Loader, ModelCache, in_thread, reason_of
from crossprop.service.prediction import Predictor
from crossprop.service.schemas import ModelNote, PropertyInfo, RegistryState, VersionNote
from crossprop.service.settings import ServiceSettings
from crossprop.service.sources import ModelSource
from crossprop.tracking.registry import ModelInfo, VersionInfo

LOADERS = 2  # models that are loaded at a time


class Service:
    """The parts of a service; ``registry`` is what was last heard of it."""

    def __init__(self, settings: ServiceSettings, source: ModelSource, load: Loader) -> None:
        self.settings = settings
        self.source = source
        self.metrics = Metrics()
        self.cache = ModelCache(source, load, settings, self.metrics)
        self.predictor = Predictor(self.cache, settings.threads, settings.limits, self.metrics)
        self.registry = RegistryState(where=source.where, up=False, note="not asked yet")
        self.polled = False
        self._polling = asyncio.Lock()
        self._logged: tuple[dict[str, str], list[str]] | None = None
        self._listed: list[ModelInfo] = []
        self._listed_at = -1e9
        self._listing = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll the registry and load models for as long as the block runs."""
        loaders = [self.cache.keep_loading() for _ in range(LOADERS)]
        tasks = [asyncio.create_task(work) for work in (self._keep_polling(), *loaders)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            self.predictor.close()

    async def _keep_polling(self) -> None:
        while True:
            await self.poll()
            await asyncio.sleep(self.settings.poll_seconds)

    async def poll(self) -> None:
        """Ask the registry which versions shall be served; what is new begins to be loaded."""
        async with self._polling:
            properties, note = self.cache.properties, ""
            try:
                versions = await in_thread(self._wanted)
                self.metrics.registry_polled.set_to_current_time()
            except Exception as error:  # a database, a server or a file system may raise anything
                loaded = "; the models that are loaded go on answering" if properties else ""
                note = f"the registry does not answer{loaded}: {reason_of(error)}"
                versions = {name: one.wanted.info for name, one in properties.items()}
            self.cache.update(versions)
            found = RegistryState(where=self.source.where, up=not note, note=note)
            self.metrics.registry_up.set(found.up)
            if found != self.registry:
                event("registry", logging.WARNING if note else logging.INFO, **found.model_dump())
            self.registry, self.polled = found, True
            # Which versions shall be served, and which named properties have none, is logged when it has changed.
            missing = [name for name in self.settings.properties if self.cache.find(name) is None]
            told = {name: info.version for name, info in versions.items()}, missing
            if found.up and told != self._logged:
                level = logging.WARNING if missing or not versions else logging.INFO
                event("versions", level, alias=self.settings.alias, versions=told[0], missing=missing)
                self._logged = told

    def _wanted(self) -> Mapping[str, VersionInfo]:
        versions = self.source.wanted()
        if not versions and self.cache.properties and not self.source.everything():
            raise CrosspropError("it holds no models any more")
        return versions

    @property
    def answering(self) -> int:
        """Number of properties for which a version answers."""
        properties = self.cache.properties.values()
        return sum(one.served is not None and one.status[0] != "unavailable" for one in properties)

    @property
    def advice(self) -> str:
        """Why nothing is served yet, and what to do."""
        settings, properties = self.settings, self.cache.properties
        if not self.registry.up:
            return f"Nothing is served: {self.registry.note}"
        if not properties:
            chosen = ", ".join(filter(None, (settings.study, *settings.properties)))
            return (
                f"No model{f' of {chosen}' if chosen else ''} has the alias {settings.alias!r}. Give it to one with "
                "'crossprop promote <target>', or serve a folder with --model."
            )
        for one in properties.values():
            if one.status[0] == "unavailable":
                return f"None of {len(properties)} models can be served: {one.status[1]}"
        return f"{len(properties)} models are being loaded. Ask again in a few seconds."

    def properties(self) -> list[PropertyInfo]:
        """What can be predicted; nothing is loaded for it."""
        known = []
        for name, one in sorted(self.cache.names.items()):
            of, (status, note) = one.shown.metadata.model_dump(), one.status
            of |= {"name": name, "model": one.model, "version": one.shown.info.version}
            known.append(PropertyInfo(**of, status=status, status_note=note))
        labels = [info.label for info in known]
        for info in known:
            if labels.count(info.label) > 1:
                info.label = info.description
        return known

    async def models(self) -> list[ModelNote]:
        """Every registered model; the registry is asked at most once per ``poll_seconds``."""
        async with self._listing:
            if time.monotonic() - self._listed_at >= self.settings.poll_seconds:
                try:
                    self._listed = list(await in_thread(self.source.everything))
                except Exception as error:  # a database, a server or a file system may raise anything
                    event("the registry cannot be listed", logging.WARNING, error=reason_of(error))
                self._listed_at = time.monotonic()
        models = {model.name: model for model in self._listed}
        for one in self.cache.properties.values():  # served from a folder, or while the registry is down
            info = one.shown.info
            held, of = dict.fromkeys(info.aliases, info.version), (info.name, info.study, info.target)
            models.setdefault(one.model, ModelInfo(*of, info.unit, info.description, held, (info,), {}))
        return [self._model_note(models[name]) for name in sorted(models)]

    def _model_note(self, model: ModelInfo) -> ModelNote:
        one = self.cache.properties.get(model.name)
        status, note = one.status if one else (None, "")
        return ModelNote(
            model=model.name,
            property=next((name for name, named in self.cache.names.items() if named is one), None),
            unit=model.unit,
            **{alias: _version_note(model.holder(alias)) for alias in ("champion", "previous", "challenger")},
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
        unit=info.unit,
        created=info.created.isoformat(timespec="seconds"),
        commit=info.tags.get("crossprop.git_commit", ""),
        data_hash=info.tags.get("crossprop.data_hash", ""),
    )
