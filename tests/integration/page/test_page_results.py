"""The page in headless Chromium: answers with warnings, with much in them, and with what is hostile in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fake_service
import pytest
from browsing import ANSWER, HIDDEN_OVERFLOW, Visit, choose, predicted, visit
from fake_service import FakeSource, load_fake, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WARNING = "above all 420 known values, at most 3.1 eV/atom"


def application_of(root: Path, load: Callable[[Path], Any]) -> Any:
    """The service with one property, loaded so."""
    from crossprop.service.app import create_app
    from crossprop.service.settings import ServiceSettings

    source = FakeSource(root)
    source.add("deltae")
    return create_app(ServiceSettings(), source, load)


def load_with_warnings(folder: Path) -> Any:
    """A model that warns of every value, also where the composition lies within its domain."""
    model = load_fake(folder)
    predict = model.predict

    def warned(fractions: Any, *, intervals: bool = True) -> Any:
        got = predict(fractions)
        return replace(got, note=["; ".join(filter(None, (note, WARNING))) for note in got.note])

    model.predict = warned
    return model


def test_a_warning_is_shown_also_where_the_composition_lies_within_the_domain(
    browser: Browser, tmp_path: Path
) -> None:
    with serving(application_of(tmp_path, load_with_warnings)) as where, visit(browser, where) as here:
        page = here.open("#formulas=NaCl,Pu2O3,Xx3&properties=deltae")
        assert len(predicted(page)) == 3
        inside, outside = page.locator(".cell").all_inner_texts()
        assert "in domain" in inside
        assert f"Beware: {WARNING}" in inside
        assert inside.count(WARNING) == 1
        assert "Outside the domain: Pu never seen" in outside
        assert "Beware" not in outside
        assert "1 prediction inside carries a warning" in page.inner_text("#status")
        flags = page.locator("#detail .detail-flag")
        assert "Inside the training domain" in flags.inner_text()
        assert f"Beware: {WARNING}" in flags.inner_text()
        page.click('[data-kind="noted"]')
        assert predicted(page) == ["NaCl"]


def test_what_could_not_be_read_among_hundreds_is_one_click_away(seen: Visit) -> None:
    page = seen.open()
    formulas = [f"Na{1 + i / 1000:.3f}Cl" for i in range(300)]
    formulas[250] = "Xx3"
    formulas[280] = "Pu2O3"
    page.fill("#formulas", "\n".join(formulas))
    choose(page, "bulkmoduluskv")
    page.click("#predict")
    assert len(predicted(page)) == 100
    kinds = page.locator(".filter").all_inner_texts()
    assert [" ".join(kind.split()) for kind in kinds] == ["All 300", "Not read 1", "Outside the domain 1"]
    page.click('[data-kind="unread"]')
    assert page.locator("#table .given").all_inner_texts() == ["Xx3"]
    assert page.evaluate("document.activeElement.dataset.kind") == "unread"
    assert page.locator(".more").count() == 0
    page.click("#turn")
    assert page.locator("#table .given").all_inner_texts() == ["Xx3"]
    page.click('[data-kind="outside"]')
    assert page.locator("#table thead th").count() == 2
    page.click("#turn")
    assert predicted(page) == ["Pu2O3"]
    page.click('[data-kind="all"]')
    assert len(predicted(page)) == 100


def test_a_wide_table_scrolls_by_itself_and_not_the_page(seen: Visit) -> None:
    page = seen.open(
        "#formulas=NaCl,KCl,LiF,NaF,KF,LiCl,RbCl,CsCl,MgO,CaO,SrO,BaO&properties=bulkmoduluskv,deltae"
    )
    predicted(page)
    assert page.locator(".filter").count() == 0, "all is well, so there is nothing to choose"
    page.click("#turn")
    table = page.locator(".table-scroll")
    assert table.evaluate("(box) => box.scrollWidth > box.clientWidth")
    assert page.evaluate(HIDDEN_OVERFLOW) <= 0


def test_no_cell_of_the_csv_is_a_live_formula_in_a_spreadsheet(seen: Visit) -> None:
    page = seen.open()
    hostile = ["=1+2", "+1", "-2+3", "@SUM(A1)", "\uff1d1+2", "\uff20SUM(A1)", '=HYPERLINK("//x")']
    page.fill("#formulas", "\n".join(hostile))
    choose(page, "deltae")
    page.click("#predict")
    page.wait_for_selector("#table tbody tr")
    with page.expect_download() as started:
        page.click("#csv")
    rows = list(csv.reader(io.StringIO(Path(started.value.path()).read_bytes().decode("utf-8-sig"))))[1:]
    assert [row[0] for row in rows] == [f"'{text}" for text in hostile]
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]


def test_what_a_catalogue_or_a_caller_writes_is_shown_and_never_run(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, unit = "<img src=x onerror='window.hit=1'>", "</style><script>window.hit=1</script>"
    monkeypatch.setitem(fake_service.PROPERTIES, "deltae", (label, unit, -1.0, 0.8, 0.09))

    def load(folder: Path) -> Any:
        model = load_fake(folder)
        predict = model.predict
        note = "<svg onload='window.hit=1'>"
        model.predict = lambda f, *, intervals=True: replace(predict(f), note=[note] * len(f))
        return model

    with serving(application_of(tmp_path, load)) as where, visit(browser, where) as here:
        page = here.open("#formulas=NaCl,%3Cscript%3Ewindow.hit%3D1%3C%2Fscript%3E&properties=deltae")
        predicted(page)
        page.wait_for_selector("#detail svg.plot")
        page.wait_for_selector("#detail .neighbours")
        assert label in page.inner_text("#properties")
        assert "<svg onload" in page.locator(".cell").first.inner_text()
        assert "<script>window.hit=1</script>" in page.inner_text("#table tbody")
        assert unit in page.inner_text("#table thead")
        assert page.evaluate("window.hit") is None
        assert page.locator("#table script, #detail img, #properties img").count() == 0


def test_a_service_that_ends_and_comes_back_is_noticed_by_an_open_page(seen: Visit) -> None:
    seen.expected = ("ERR_FAILED",)
    page = seen.open()
    page.route("**/v1/**", lambda route: route.abort())
    page.fill("#formulas", "NaCl")
    page.click("#predict")
    page.wait_for_selector("text=The service cannot be reached")
    page.wait_for_selector("#health:has-text('no connection')")
    page.unroute("**/v1/**")
    page.wait_for_selector("#health:has-text('ready')")
    page.wait_for_selector("#problem", state="hidden")
    page.click("#predict")
    assert predicted(page) == ["NaCl"]


def test_a_link_that_was_opened_too_early_is_answered_once_the_service_is_there(seen: Visit) -> None:
    seen.expected = ("ERR_FAILED",)
    page = seen.page
    page.route("**/v1/**", lambda route: route.abort())
    page.goto(seen.address + ANSWER)
    page.wait_for_selector("text=The service cannot be reached")
    page.unroute("**/v1/**")
    assert len(predicted(page)) == 3
