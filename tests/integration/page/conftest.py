"""One browser and one service with made-up models for all tests of the page."""

import pytest
from browsing import visit
from fake_service import FakeSource, held_back, load_fake, serving
from tool_modules import load_script

from crossprop.service.app import create_app
from crossprop.service.settings import ServiceSettings

TARGETS = ("bulkmoduluskv", "deltae", "spillage", "magmom_oszicar")


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    screenshots = load_script("tools/screenshots.py")
    executable = screenshots.find_browser()
    if executable is None:
        pytest.skip("neither Chromium nor Chrome is installed here")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e .[dev]")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=executable, args=list(screenshots.FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def application():
    """Makes the service with four properties, of which one cannot be loaded; a fifth waits for ``gate``, if given."""

    def make(root, gate=None, targets=TARGETS, load=load_fake, **settings):
        source = FakeSource(root)
        for target in (*targets, *(("optb88vdw_bandgap",) if gate else ())):
            source.add(target, damaged=target == "magmom_oszicar")

        loading = held_back(gate, "optb88vdw_bandgap") if gate else load
        return create_app(ServiceSettings(**settings), source, loading)

    return make


@pytest.fixture(scope="module")
def address(application, tmp_path_factory):
    """Where the service answers."""
    with serving(application(tmp_path_factory.mktemp("models"))) as where:
        yield where


@pytest.fixture
def seen(browser, address):
    """A visit of the page on a desk."""
    with visit(browser, address) as here:
        yield here
