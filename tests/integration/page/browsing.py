"""A visit of the service's page in headless Chromium, and what must hold on every visit."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from waiting import PATIENCE

ANSWER = "#formulas=NaCl,Pu2O3,Xx3&properties=bulkmoduluskv,deltae"
# One formula that is answered, one outside of the training domain, one that is no formula.

HIDDEN_OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

FAINT = """() => {
    const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const over = (top, under) => under.map((c, i) => top[i] * top[3] + c * (1 - top[3]));
    const paint = (e) => rgba(getComputedStyle(e).backgroundColor), white = [255, 255, 255];
    const ground = (e) => (e ? over(paint(e), ground(e.parentElement)) : white);
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b) + 0.05;
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    let read = 0;
    while (texts.nextNode()) {
        const e = texts.currentNode.parentElement, style = getComputedStyle(e), text = texts.currentNode.data.trim();
        if (!text || !e.checkVisibility() || e.closest(':disabled, [aria-disabled="true"], .visually-hidden')) continue;
        const under = ground(e), ink = over(rgba(e.closest("svg") ? style.fill : style.color), under);
        const [dark, bright] = [light(under), light(ink)].sort((a, b) => a - b), size = parseFloat(style.fontSize);
        const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
        if (bright / dark < least) found.push(`${text} ${(bright / dark).toFixed(2)}`);
        read += 1;
    }
    return [read, found];
}"""
# How many texts are visible, and which have too little contrast (WCAG 2.2, 1.4.3: 4.5, or 3 for large text).


@dataclass
class Visit:
    """One page in a context of its own, with its errors, warnings and requests to other servers."""

    page: Any
    address: str
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of complaints that belong to the test: a status that it provokes."""

    def open(self, after=""):
        """Load the page and wait for its list of properties."""
        self.page.goto(self.address + after)
        self.page.wait_for_selector(".property input, .nothing")
        return self.page

    def predict(self, *formulas, properties=("bulkmoduluskv",)):
        """Load the page, type formulas, choose properties, and wait for the table."""
        page = self.open()
        page.fill("#formulas", "\n".join(formulas))
        choose(page, *properties)
        page.click("#predict")
        page.wait_for_selector("#table tbody tr")
        return page


def choose(page, *names):
    """Choose these properties and no others."""
    page.click("#properties-clear")
    for name in names:
        page.check(f'.property input[value="{name}"]')


def predicted(page):
    """Row headings of the table, once it is there."""
    page.wait_for_selector("#table tbody tr")
    return [text.replace("\n", "") for text in page.locator("#table tbody th").all_inner_texts()]


@contextmanager
def visit(browser, address, **options):
    """A visit whose complaints are checked at its end; ``options`` are those of a browser context."""
    given: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
    given |= {"accept_downloads": True, "permissions": ["clipboard-read", "clipboard-write"]}
    context = browser.new_context(**given | options)
    page = context.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    seen = Visit(page, f"{address}/")
    page.on("console", lambda m: seen.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: seen.complaints.append(str(e)))
    local = (address, "blob:", "data:")
    page.on("request", lambda r: None if r.url.startswith(local) else seen.complaints.append(r.url))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective, e.blockedURI))"
    )
    try:
        yield seen
        assert not [text for text in seen.complaints if not any(part in text for part in seen.expected)]
    finally:
        context.close()
