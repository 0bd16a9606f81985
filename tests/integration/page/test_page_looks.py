"""The page in headless Chromium: readable, walkable by keyboard, at home on a phone and on paper, and small."""

from pathlib import Path
from typing import Any

import pytest
from browsing import ANSWER, HIDDEN_OVERFLOW, predicted, visit

import crossprop.service

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


def test_a_phone_shows_cards_and_never_scrolls_sideways(browser, address):
    with visit(browser, address, **PHONE) as here:
        page = here.open()
        page.click("summary")
        page.tap('.pt [data-symbol="Mg"]')
        assert page.input_value("#formulas") == "Mg"
        assert page.evaluate(HIDDEN_OVERFLOW) <= 0
        page.goto("about:blank")
        here.open(ANSWER)
        assert len(predicted(page)) == 3
        assert page.evaluate(HIDDEN_OVERFLOW) <= 0
        assert page.locator("#table td").first.evaluate("(td) => getComputedStyle(td).display") == "block"
        page.locator(".cell").first.tap()
        page.wait_for_selector("#sheet[open] svg.plot")
        page.keyboard.press("Escape")
        page.wait_for_function("document.activeElement.className === 'cell'")


@pytest.mark.parametrize("width", [720, 1050])
def test_on_paper_no_column_is_cut(seen, width):
    page = seen.open(f"{ANSWER},spillage")
    predicted(page)
    page.click("#turn")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": width, "height": 1000})
    assert page.evaluate(HIDDEN_OVERFLOW) <= 0
    assert page.locator(".table-scroll").evaluate("(box) => box.scrollWidth <= box.clientWidth")
    assert not page.locator("#predict").is_visible()


def test_the_page_can_be_walked_by_keyboard_in_reading_order(seen):
    page = seen.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    active = "document.activeElement.id || document.activeElement.className.split(' ')[0]"
    stops = [page.evaluate(active)]
    assert stops == ["formulas"], "the link leads to the input itself"
    for _ in range(7):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(active))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", stops
    wanted = ["formulas", "pt-element", "properties-clear", "search", "only", "predict"]
    assert [stop for stop in stops if stop in wanted] == wanted[: len([s for s in stops if s in wanted])]
    page.focus("#search")
    page.keyboard.press("ArrowDown")
    first = page.evaluate("document.activeElement.value")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.value") != first


def test_the_table_is_walked_with_arrows_and_every_control_has_a_name(seen):
    page = seen.open(ANSWER)
    predicted(page)
    page.focus('.cell[tabindex="0"]')
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector('#detail .detail-formula:has-text("Pu")')
    assert page.locator('.cell[aria-current="true"]').count() == 1
    page.focus("#detail")
    assert page.evaluate("document.activeElement.id") == "detail", "it scrolls by keyboard"
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea')].filter((c) => c.checkVisibility() && "
        "!c.innerText?.trim() && !c.ariaLabel && !c.labels?.length).map((c) => c.outerHTML)"
    )
    assert nameless == []
    otherwise = page.evaluate(
        "[...document.querySelectorAll('.pt-element')].filter((b) => !b.ariaLabel.startsWith("
        "b.innerText.replace(/\\s+/, ' '))).length"
    )
    assert otherwise == 0, "the name of an element's button begins with what it shows"
    assert page.get_by_role("grid").count() == page.get_by_role("main").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator('#status[role="status"][aria-live="polite"]').count() == 1
    assert page.locator("h1").count() == 1


def test_the_description_of_the_api_can_be_read_and_tried_without_other_servers(seen):
    page = seen.page
    page.goto(f"{seen.address}docs")
    page.click("#operations-models-predict_v1_predict_post button")
    page.click("text=Try it out")
    page.click("button.execute")
    page.wait_for_selector(".live-responses-table :text('jarvis.bulkmoduluskv')")
    assert f"{seen.address}v1/predict" in page.inner_text(".curl-command")


def test_pages_are_small_and_hold_no_foreign_address():
    files = sorted((Path(crossprop.service.__file__).parent / "static").iterdir())
    assert sum(file.stat().st_size for file in files) < 150_000
    for file in files:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        for forbidden in ("http://", "https://", "innerHTML"):
            assert forbidden not in text, file.name
