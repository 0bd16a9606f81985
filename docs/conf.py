"""Sphinx configuration of the documentation; `make docs` builds it into docs/_build/html."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "_extensions"))

# Loaded before autodoc sets typing.TYPE_CHECKING, under which pydantic's models cannot be built.
import crossprop.config  # noqa: E402
import crossprop.service.app  # noqa: E402, F401
from crossprop import __version__  # noqa: E402

project = "crossprop"
author = "crossprop developers"
project_copyright = "crossprop developers, MIT licence"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "cli_reference",
    "configuration_reference",
    "rest_reference",
]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
exclude_patterns = ["_build", "_extensions", "images", "**/.ipynb_checkpoints"]
smartquotes = False  # two dashes begin an option

myst_heading_anchors = 4
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
add_module_names = False

html_theme = "furo"
html_title = f"crossprop {__version__}"
html_static_path = ["_static"]
html_css_files = ["crossprop.css"]
html_show_sphinx = False
html_copy_source = False

OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "docker/README.md": "containers.md",
}
"""Pages that lie outside of docs/ and are shown within the site, by the page that includes them."""


def _notebook_as_markdown(app: object, page: str, source: list[str]) -> None:
    """Show a notebook's cells as text and code; its outputs are not committed."""
    if not page.startswith("notebooks/"):
        return
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(source[0])["cells"]]
    parts = [f"```python\n{text}\n```" if kind == "code" else text for kind, text in cells]
    download = f"{{download}}`Download the notebook <{Path(page).name}.ipynb>`"
    source[0] = "\n\n".join([parts[0], download, *parts[1:]])


def _links_within_the_site(app: object, page: str, source: list[str]) -> None:
    """Point links that leave docs/ to the page that shows their file, others to plain code."""
    depth = "../" * page.count("/")

    def replace(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        if shown := OUTSIDE.get(target):
            return f"[{label}]({depth}{shown}{anchor})"
        return f"{label} (`{target}`)"

    upwards = re.escape("../" * (page.count("/") + 1))
    source[0] = re.sub(rf"(?<!!)\[([^\]]+)\]\({upwards}([^)#\s]+)(#[^)\s]+)?\)", replace, source[0])


def _links_of_included_pages(app: object, path: object, parent: str, source: list[str]) -> None:
    """Pages of the repository's root that a page of the site includes find the others beside them."""
    source[0] = re.sub(r"\]\((?:\.\./)?docs/", "](", source[0])


def _generated_pages(app: object, env: Any, *_: object) -> list[str]:
    """Pages that follow from code: Sphinx cannot tell when they are out of date, so they are always made anew."""
    return [page for page in env.found_docs if page.startswith("reference/")]


def setup(app: object) -> None:
    """Called by Sphinx."""
    app.connect("env-get-outdated", _generated_pages)  # type: ignore[attr-defined]
    app.connect("source-read", _notebook_as_markdown)  # type: ignore[attr-defined]
    app.connect("source-read", _links_within_the_site)  # type: ignore[attr-defined]
    app.connect("include-read", _links_of_included_pages)  # type: ignore[attr-defined]
