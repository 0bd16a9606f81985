"""The documentation builds without a warning, leads nowhere dead, and its generated references are complete."""

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tool_modules import load_script

from crossprop.cli import app
from crossprop.config import Params

ROOT = Path(__file__).resolve().parents[2]

load_script("docs/_extensions/reference_sections.py")  # the others import it by this name
configuration = load_script("docs/_extensions/configuration_reference.py")
rest = load_script("docs/_extensions/rest_reference.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "-q", "-b", "html"]
    command += [str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_site_holds_every_page_and_loads_nothing_from_another_host(site):
    pages = [p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts]
    for page in pages:
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    loaded = re.compile(
        r"""<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^>]*>"""
    )
    for page in site.rglob("*.html"):
        assert [tag for tag in loaded.findall(page.read_text()) if "canonical" not in tag] == [], page


def _text(site: Path, page: str) -> str:
    """What a reader sees of a page's article, with single spaces."""
    html_text = (site / page).read_text(encoding="utf-8")
    article = re.search(r"<article.*?</article>", html_text, flags=re.DOTALL)
    assert article
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", article[0])).split())


def test_rest_reference_has_every_operation_and_every_field_with_its_meaning(site):
    page, document = _text(site, "reference/rest.html"), rest.full_document()
    for method, path, operation in rest.operations(document):
        assert f"{method} {path}" in page
        content = operation["responses"]["200"]["content"].get("application/json")
        if content is None:
            continue
        for name, told in rest.answer_fields(document, content["schema"]):
            assert name in page
            assert told or name == "status", f"{method} {path}: nobody says what {name} is"


def _commands(command: Any, words: str = "crossprop") -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from _commands(child, f"{words} {name}")
    if not children:
        yield words, command


def test_command_reference_has_every_command_with_every_option(site):
    page = _text(site, "reference/cli.html")
    known = list(_commands(typer.main.get_command(app)))
    assert len(known) > 10
    for words, command in known:
        assert f"$ {words} " in page
        part = page.split(f"$ {words} ", 1)[1].partition(" $ crossprop ")[0]
        for parameter in command.params:
            name = parameter.opts[0]
            assert re.search(rf"(?<![\w-]){name}(?:\.\.\.|[ :,])", part), f"{words} {name}"
            assert parameter.help, f"{words}: {name} has no meaning"


def test_every_key_of_the_configuration_is_on_the_page(site):
    page = _text(site, "reference/configuration.html")
    for model, places in configuration.places(Params):
        assert (", ".join(places) if places != [""] else "(top level)") in page
        for name, holds, _, meaning in configuration.rows(model):
            assert f"{name} {holds}" in page, name
            assert meaning, name


def test_configuration_page_names_every_environment_variable_and_folder_that_is_read():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'"(CROSSPROP_[A-Z_]+)"', text)}
    assert read
    told = set(re.findall(r"^\| `(CROSSPROP_[A-Z_]+)` \|", page, flags=re.MULTILINE))
    assert told == read
    folders = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}
    assert set(re.findall(r"^\| `conf/(\w+)/` \|", page, flags=re.MULTILINE)) == folders
