"""The page in headless Chromium: what it says where there is no answer, or only a part of one."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import ANSWER, Visit, choose, predicted, visit
from fake_service import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_bad_formula_is_explained_while_the_others_are_answered(seen: Visit) -> None:
    page = seen.open(ANSWER)
    assert len(predicted(page)) == 3
    assert page.locator(".cell").count() == 4
    row = page.locator(".row-error")
    assert "Xx3" in row.inner_text()
    assert "is no element" in row.inner_text()
    assert "1 formula could not be read" in page.inner_text("#status")
    assert "Pu never seen in training" in page.locator(".flag-outside").first.inner_text()
    row.get_by_role("button", name="Correct it in the list").click()
    assert page.evaluate("document.activeElement.id") == "formulas"
    assert page.evaluate("getSelection().toString()") == "Xx3"


def test_an_unavailable_property_cannot_be_chosen_and_says_why(seen: Visit) -> None:
    page = seen.open()
    page.wait_for_selector(".state-unavailable")
    item = page.locator(".property", has_text="magmom_oszicar")
    assert item.locator("input").is_disabled()
    assert "damaged" in item.inner_text()
    page.fill("#search", "magnet")
    assert page.locator(".property").count() == 1


@pytest.mark.parametrize(
    ("status", "headers", "title", "hint"),
    [
        (503, {"Retry-After": "30"}, "The service is busy", r"Try again in \d+ s"),
        (500, {}, "Something went wrong in the service", "Try again"),
        (422, {}, "The service refused the request", "Try again"),
    ],
)
def test_an_error_of_the_service_is_told_and_can_be_retried(
    seen: Visit, status: int, headers: dict[str, str], title: str, hint: str
) -> None:
    seen.expected = (f"status of {status}",)
    seen.page.clock.install()
    page = seen.open()
    body = '{"error": {"type": "BusyError", "message": "64 requests wait already."}}'
    page.route("**/v1/predict", lambda r: r.fulfill(status=status, headers=headers, body=body), times=1)
    page.fill("#formulas", "NaCl")
    page.click("#predict")
    problem = page.locator("#problem")
    problem.wait_for()
    assert title in problem.inner_text()
    assert "64 requests wait already." in problem.inner_text()
    assert re.search(hint, problem.inner_text())
    assert problem.get_attribute("role") == "alert"
    page.clock.run_for(31_000)
    page.get_by_role("button", name="Try again", exact=True).click()
    assert predicted(page) == ["NaCl"]
    assert problem.is_hidden()


def test_a_key_is_asked_for_and_kept_in_the_tab_only(
    browser: Browser, application: Callable[..., Any], tmp_path: Path
) -> None:
    from crossprop.service.auth import KeyRing, Scope, new_key

    secret, key = new_key("tester", Scope.READ)
    with serving(application(tmp_path, keys=KeyRing((key,)))) as where, visit(browser, where) as here:
        here.expected = ("status of 401",)
        page = here.page
        page.goto(where)
        page.get_by_label("This service asks for an API key").fill("wrong")
        page.click("text=Use this key")
        page.wait_for_selector("text=did not accept this key")
        page.get_by_label("This service asks for an API key").fill(secret)
        page.click("text=Use this key")
        page.wait_for_selector(".property input")
        page.fill("#formulas", "NaCl")
        page.click("#predict")
        assert predicted(page) == ["NaCl"]
        kept = page.evaluate("[localStorage.length, document.cookie, Object.values(sessionStorage)]")
        assert kept == [0, "", [secret]]
        page.click("#forget")
        page.wait_for_selector("#key:not([hidden])")
        assert page.evaluate("sessionStorage.length") == 0


def test_a_model_that_is_being_loaded_follows_when_it_is_there(
    browser: Browser, application: Callable[..., Any], tmp_path: Path
) -> None:
    gate = threading.Event()
    with serving(application(tmp_path, gate=gate)) as where, visit(browser, where) as here:
        page = here.open()
        page.wait_for_selector(".state-loading")
        page.fill("#formulas", "NaCl")
        choose(page, "bulkmoduluskv", "optb88vdw_bandgap")
        page.click("#predict")
        assert predicted(page) == ["NaCl"]
        assert page.locator(".cell").count() == 1
        assert "Still loading, to follow: optb88vdw_bandgap" in page.inner_text("#status")
        gate.set()
        page.wait_for_selector("td:nth-child(3) .cell")
        page.wait_for_selector("#predict:enabled")
