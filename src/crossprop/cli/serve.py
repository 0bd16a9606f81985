"""``crossprop serve``: the HTTP service and its page; ``crossprop api-key``: keys for it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from crossprop.errors import ConfigError

if TYPE_CHECKING:
    from crossprop.service.settings import ServiceSettings
    from crossprop.service.sources import ModelSource

app = typer.Typer()

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ALL_ADDRESSES = ("0.0.0.0", "::")
_UNITS = {"": 2**30, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@app.command()
def serve(
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on; 0 for any that is free.", min=0, max=65535)] = 8000,
    uri: Annotated[str | None, Option(help="Store; MLFLOW_TRACKING_URI or ./mlflow.db if none.")] = None,
    alias: Annotated[str, Option(help="Alias whose versions are served.")] = "champion",
    study: Annotated[str | None, Option(help="Only this study's models.")] = None,
    properties: Annotated[str | None, Option(help="Only these targets or models, by commas.")] = None,
    model: Annotated[list[Path] | None, Option(help="A model's folder, no registry; repeatable.")] = None,
    memory: Annotated[str | None, Option(help="Of all loaded models, as 4G; by default half of the machine's.")] = None,
    threads: Annotated[int | None, Option(help="For predictions; as many as there are cores.", min=1)] = None,
    cache: Annotated[Path | None, Option(help="Folder for fetched models; .crossprop by default.")] = None,
    api_keys: Annotated[Path | None, Option(help="File of API keys; else lines in CROSSPROP_API_KEYS.")] = None,
    allowed_host: Annotated[list[str] | None, Option(help="Other host name, or '*'; repeatable.")] = None,
    cors: Annotated[list[str] | None, Option(help="Origin: https://a.org; repeatable.")] = None,
    proxy: Annotated[list[str] | None, Option(help="Proxy with X-Forwarded-For; repeatable.")] = None,
) -> None:
    """Serve the champions over HTTP, with a page; follows the registry and stops cleanly on SIGTERM."""
    from crossprop.service.auth import read_keys
    from crossprop.service.server import open_socket, run_app
    from crossprop.service.settings import ServiceSettings
    from crossprop.service.sources import FolderSource, RegistrySource
    from crossprop.tracking.store import store_uri

    defaults = ServiceSettings()
    settings = ServiceSettings(
        alias=alias,
        study=study,
        properties=tuple(name.strip() for name in (properties or "").split(",") if name.strip()),
        memory_bytes=defaults.memory_bytes if memory is None else _bytes(memory),
        threads=threads or defaults.threads,
        keys=read_keys(api_keys),
        hosts=_hosts(host, allowed_host or []),
        any_address=host in _ALL_ADDRESSES,
        cors=tuple(_origin(text) for text in cors or ()),
        proxies=tuple(_network(text) for text in proxy or ()),
    )
    source: ModelSource
    if model and (uri or study or settings.properties or cache or alias != defaults.alias):
        raise ConfigError("--model serves folders. Leave --uri, --study, --properties, --alias, --cache out.")
    if model:
        source = FolderSource(tuple(model))
    else:
        fetched = None if cache is None else cache / "registered"
        source = RegistrySource(store_uri(uri), alias, study, settings.properties, fetched)
    listening = open_socket(host, port)
    from crossprop.service.app import create_app

    application = create_app(settings, source)
    typer.echo("\n".join(_lines(host, listening.getsockname()[1], source, settings, bool(model))))
    run_app(application, listening, settings.limits, settings.proxies)
    typer.echo("stopped")


@app.command("api-key")
def api_key(
    owner: Annotated[str, Argument(help="Owner of the key, named in the access log.")],
    scope: Annotated[str, Option(help="read, or admin (may ask the service to poll the registry).")] = "read",
) -> None:
    """Make an API key: the key for its owner, and the line for the file of keys, which holds a digest only."""
    from crossprop.service.auth import Scope, new_key

    if scope not in set(Scope):
        raise ConfigError(f"There is no scope {scope!r}. Choose {' or '.join(Scope)}.")
    secret, key = new_key(owner, Scope(scope))
    typer.echo(f"key, shown this once: {secret}\nline for the file:    {key.line}")
    typer.echo("Next:                 put the line into a file, then crossprop serve --api-keys FILE")


def _lines(host: str, port: int, source: ModelSource, settings: ServiceSettings, folders: bool) -> list[str]:
    shown = "127.0.0.1" if host in _ALL_ADDRESSES else f"[{host}]" if ":" in host else host
    what = "models in" if folders else f"versions with the alias {settings.alias!r} in"
    lines = [
        f"crossprop serves {what} {source.where}",
        f"page http://{shown}:{port}/  API http://{shown}:{port}/docs  (Ctrl+C ends it)",
    ]
    if not settings.keys:
        open_to = "this machine" if host in _LOOPBACK else "EVERYBODY WHO REACHES THIS ADDRESS"
        lines.append(f"no API keys: open to {open_to}, for reading only (--api-keys FILE closes it)")
    return lines


def _hosts(host: str, more: list[str]) -> tuple[str, ...]:
    """Host names that the service answers for: the loopback, the address that it listens on, and those named."""
    from crossprop.service.settings import LOOPBACK

    for name in more:
        if not re.fullmatch(r"\*|(\*\.)?[\w.-]+|\[[0-9a-fA-F:.]+\]", name):
            raise ConfigError(f"--allowed-host {name!r} is no host name. Leave out scheme and port.")
    bound = () if host in _ALL_ADDRESSES else (f"[{host}]" if ":" in host else host,)
    return tuple(dict.fromkeys(name.lower() for name in (*LOOPBACK, *bound, *more)))


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", text):
        raise ConfigError(f"--cors {text!r} is no origin. Give one such as https://pages.example.org.")
    return text.lower()


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ConfigError(
            f"--proxy {text!r} is neither an address nor a network. Give one such as 127.0.0.1 or 10.0.0.0/8."
        ) from None
    return text


def _bytes(text: str) -> int:
    """A size such as 4G, 512M or 1.5g; a bare number is in gigabytes."""
    cleaned = text.strip().lower().removesuffix("ib").removesuffix("b")
    unit = cleaned[-1:] if cleaned[-1:] in ("k", "m", "g", "t") else ""
    try:
        size = int(float(cleaned.removesuffix(unit)) * _UNITS[unit])
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise ConfigError(f"--memory {text!r} is no size. Give one such as 4G or 512M.")
    return size
