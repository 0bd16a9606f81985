"""The documentation builds without a warning, leads nowhere dead, and its generated references are complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tool_modules import load_script

from crossprop.config import Params

ROOT = Path(__file__).resolve().parents[2]

check_site = load_script("tools/check_site.py")
configuration = load_script("docs/_extensions/configuration_reference.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_link_of_the_site_leads_somewhere_and_nothing_comes_from_another_host(site):
    assert check_site.faults(site) == []


def test_site_holds_every_page_of_the_docs(site):
    pages = [p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts]
    for page in pages:
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file()


def test_rest_reference_names_every_path_of_the_service(site):
    page = (site / "reference" / "rest.html").read_text(encoding="utf-8")
    for path in ("/v1/predict", "/v1/properties", "/v1/models", "/healthz", "/readyz", "/metrics"):
        assert path in page


def test_command_reference_names_every_command(site):
    page = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for command in (
        "data add",
        "study new",
        "fit",
        "predict",
        "promote",
        "rollback",
        "models",
        "screen",
        "serve",
    ):
        assert f"crossprop {command} [OPTIONS]" in page


def test_every_key_of_a_study_has_a_meaning():
    for path, model in configuration.sections(Params):
        if path == "study":
            silent = [name for name, _, _, meaning in configuration.rows(model) if not meaning]
            assert not silent


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="gone.html">x</a>', "does not exist"),
        ('<a href="#nowhere">x</a>', "names no heading"),
        ('<script src="https://cdn.example.org/x.js"></script>', "from another host"),
        ('<img src="missing.png">', "does not exist"),
    ],
)
def test_faults_of_a_site_are_found(tmp_path, html, fault):
    (tmp_path / "index.html").write_text(f"<html><body><h1 id='top'>t</h1>{html}</body></html>")
    (found,) = check_site.faults(tmp_path)
    assert fault in found


def test_sound_site_has_no_fault(tmp_path):
    (tmp_path / "index.html").write_text(
        '<h1 id="top">t</h1><a href="#top">x</a><a href="https://doi.org/1">y</a>'
    )
    assert check_site.faults(tmp_path) == []
