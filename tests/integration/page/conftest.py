"""One browser and one service with made-up models for all tests of the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Visit, visit
from fake_service import FakeSource, load_fake, serving
from tool_modules import load_script
from waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    screenshots = load_script("tools/screenshots.py")
    executable = screenshots.find_browser()
    if executable is None:
        pytest.skip("neither Chromium nor Chrome is installed here")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed: pip install -e .[dev]")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=executable, args=list(screenshots.FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def application() -> Callable[..., Any]:
    """Makes the service with four properties, of which one cannot be loaded; a fifth waits for ``gate``, if given."""

    def make(root: Path, gate: threading.Event | None = None, **settings: Any) -> Any:
        from crossprop.service.app import create_app
        from crossprop.service.settings import ServiceSettings

        source = FakeSource(root)
        for target in ("bulkmoduluskv", "deltae", "spillage", *(("optb88vdw_bandgap",) if gate else ())):
            source.add(target)
        source.add("magmom_oszicar", damaged=True)

        def load(folder: Path) -> Any:
            if gate and "optb88vdw_bandgap" in folder.parts:
                gate.wait(PATIENCE)
            return load_fake(folder)

        return create_app(ServiceSettings(**settings), source, load)

    return make


@pytest.fixture(scope="module")
def address(application: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the service answers."""
    with serving(application(tmp_path_factory.mktemp("models"))) as where:
        yield where


@pytest.fixture
def seen(browser: Browser, address: str) -> Iterator[Visit]:
    """A visit of the page on a desk."""
    with visit(browser, address) as here:
        yield here
