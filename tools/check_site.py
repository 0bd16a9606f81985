"""Checks a built site: every link and picture within it leads somewhere, and nothing is loaded from elsewhere.

python tools/check_site.py docs/_build/html
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""Tags that make a browser load something, and where they say what."""


@dataclass
class Page(HTMLParser):
    """Anchors, links and loaded files of one page."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what a tag names."""
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADS and LOADS[tag] in values and values.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(values[LOADS[tag]])


def faults(site: Path) -> list[str]:
    """One line for every dead link and every file that is loaded from another host."""
    pages = {path.resolve(): _read(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        place = path.relative_to(site.resolve())
        for target in page.loads:
            if urlsplit(target).scheme in ("http", "https") or target.startswith("//"):
                found.append(f"{place}: loads {target} from another host")
        for target in (*page.links, *page.loads):
            if problem := _problem(target, path, pages):
                found.append(f"{place}: {target} {problem}")
    if not pages:
        found.append(f"{site} holds no page: build it with 'make docs'")
    return found


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _problem(target: str, path: Path, pages: dict[Path, Page]) -> str:
    parts = urlsplit(target)
    if parts.scheme or target.startswith("//"):
        return ""
    aim = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if aim.is_dir():
        aim = aim / "index.html"
    if not aim.exists():
        return "does not exist"
    if parts.fragment and aim in pages and unquote(parts.fragment) not in pages[aim].anchors:
        return "names no heading"
    return ""


def main() -> None:
    """Print the faults; status 1 where there are some."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("site", type=Path)
    found = faults(parser.parse_args().site)
    print("\n".join(found) or "all links of the site lead somewhere")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
