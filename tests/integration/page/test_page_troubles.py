"""The page in headless Chromium: warnings, hostile texts, and answers that are missing or late."""

import re
import threading
from dataclasses import replace

import fake_service
from browsing import ANSWER, choose, predicted, visit
from fake_service import load_fake, serving
from waiting import until

from crossprop.service.auth import Scope, new_key

WARNING = "above all 420 known values, at most 3.1 eV/atom"


def noting(words):
    """Loads models that note this on every value, also where the composition lies within the domain."""

    def load(folder):
        model = load_fake(folder)
        predict = model.predict

        def noted(fractions, *, intervals=True):
            got = predict(fractions)
            return replace(got, note=["; ".join(filter(None, (note, words))) for note in got.note])

        model.predict = noted
        return model

    return load


def test_a_warning_is_shown_also_where_the_composition_lies_within_the_domain(browser, application, tmp_path):
    app = application(tmp_path, targets=("deltae",), load=noting(WARNING))
    with serving(app) as where, visit(browser, where) as here:
        page = here.open("#formulas=NaCl,Pu2O3,Xx3&properties=deltae")
        assert len(predicted(page)) == 3
        inside, outside = page.locator(".cell").all_inner_texts()
        assert "in domain" in inside
        assert f"Beware: {WARNING}" in inside
        assert "Outside the domain: Pu never seen" in outside
        assert "Beware" not in outside
        assert "1 prediction inside carries a warning" in page.inner_text("#status")
        flags = page.locator("#detail .detail-flag").inner_text()
        assert "Inside the training domain" in flags
        assert f"Beware: {WARNING}" in flags
        page.click('[data-kind="noted"]')
        assert predicted(page) == ["NaCl"]


def test_what_a_catalogue_or_caller_writes_is_never_run(browser, application, tmp_path, monkeypatch):
    label, unit = "<img src=x onerror='window.hit=1'>", "</style><script>window.hit=1</script>"
    monkeypatch.setitem(fake_service.PROPERTIES, "deltae", (label, unit, -1.0, 0.8, 0.09))
    app = application(tmp_path, targets=("deltae",), load=noting("<svg onload='window.hit=1'>"))
    with serving(app) as where, visit(browser, where) as here:
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


def test_a_bad_formula_is_explained_while_the_others_are_answered(seen):
    page = seen.open(ANSWER)
    assert len(predicted(page)) == 3
    unavailable = page.locator(".property", has_text="magmom_oszicar")
    assert unavailable.locator("input").is_disabled()
    assert "damaged" in unavailable.inner_text()
    assert page.locator(".cell").count() == 4
    row = page.locator(".row-error")
    assert "Xx3" in row.inner_text()
    assert "is no element" in row.inner_text()
    assert "1 formula could not be read" in page.inner_text("#status")
    assert "Pu never seen in training" in page.locator(".flag-outside").first.inner_text()
    row.get_by_role("button", name="Correct it in the list").click()
    assert page.evaluate("document.activeElement.id") == "formulas"
    assert page.evaluate("getSelection().toString()") == "Xx3"


def test_without_a_model_the_page_promises_no_examples(browser, application, tmp_path):
    with serving(application(tmp_path, targets=())) as where, visit(browser, where) as here:
        page = here.open()
        assert "example" not in page.inner_text("#empty")
        assert "crossprop promote" in page.inner_text("#properties")


def test_an_error_of_the_service_is_told_and_can_be_retried(seen):
    seen.expected = ("status of 503",)
    seen.page.clock.install()
    page = seen.open()
    body = '{"error": {"type": "BusyError", "message": "64 requests wait already."}}'
    answer = {"status": 503, "headers": {"Retry-After": "30"}, "body": body}
    page.route("**/v1/predict", lambda route: route.fulfill(**answer), times=1)
    page.fill("#formulas", "NaCl")
    page.click("#predict")
    problem = page.locator("#problem")
    problem.wait_for()
    assert "The service is busy" in problem.inner_text()
    assert "64 requests wait already." in problem.inner_text()
    assert re.search(r"Try again in \d+ s", problem.inner_text())
    assert problem.get_attribute("role") == "alert"
    page.clock.run_for(31_000)
    page.get_by_role("button", name="Try again", exact=True).click()
    assert predicted(page) == ["NaCl"]
    assert problem.is_hidden()
    assert page.locator("#results.stale").count() == 0
    page.route("**/v1/predict", lambda route: route.fulfill(**answer), times=1)
    page.check("#weight")
    page.click("#predict")
    page.wait_for_selector("#status:text-is('No prediction was made.')")
    assert page.locator("#results.stale").count() == 1, "what is shown answers the question before"


def test_a_key_is_asked_for_and_kept_in_the_tab_only(browser, application, tmp_path):
    secret, key = new_key("tester", Scope.READ)
    with serving(application(tmp_path, keys=(key,))) as where, visit(browser, where) as here:
        here.expected = ("status of 401",)
        page = here.page
        page.goto(where)
        for given in ("wrong", secret):
            page.get_by_label("This service asks for an API key").fill(given)
            page.click("text=Use this key")
            page.wait_for_selector("text=did not accept this key" if given == "wrong" else ".property input")
        page.fill("#formulas", "NaCl")
        page.click("#predict")
        assert predicted(page) == ["NaCl"]
        kept = page.evaluate("[localStorage.length, document.cookie, Object.values(sessionStorage)]")
        assert kept == [0, "", [secret]]
        page.click("#forget")
        page.wait_for_selector("#key:not([hidden])")
        assert page.evaluate("sessionStorage.length") == 0


def test_a_model_that_is_being_loaded_follows_when_it_is_there(browser, application, tmp_path):
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


def test_another_question_ends_a_prediction_that_still_waits(browser, application, tmp_path):
    gate = threading.Event()
    with serving(application(tmp_path, gate=gate, targets=())) as where, visit(browser, where) as here:
        page = here.open()
        page.wait_for_selector(".state-loading")
        for example in (page.locator("#examples button").first, page.locator("#examples button").last):
            example.click()
        page.wait_for_selector("#stop:not([hidden])")
        gate.set()
        assert predicted(page) == ["Mg2SiO4"] == page.input_value("#formulas").splitlines()
        page.wait_for_selector("#predict:enabled")


def test_a_model_that_is_replaced_after_the_page_was_opened_is_shown_with_its_own_figures(
    browser, application, tmp_path
):
    app = application(tmp_path)
    with serving(app) as where, visit(browser, where) as here:
        here.predict("NaCl")
        source = app.state.service.source
        source.add("bulkmoduluskv", "2", unit="MPa")
        page = here.page
        until(lambda: app.state.service.cache.find("bulkmoduluskv").served.info.version == "2")
        page.click("#predict")
        page.wait_for_selector("#table thead >> text=v2")
        assert "MPa" in page.inner_text("#table thead")
        assert "GPa" not in page.inner_text("#results")


def test_a_description_of_the_api_that_does_not_arrive_is_reported(seen):
    seen.expected = ("503",)
    seen.page.route("**/openapi.json", lambda route: route.fulfill(status=503))
    seen.page.goto(f"{seen.address}docs")
    seen.page.wait_for_selector("main:text('Reload this page')")


def test_a_service_that_ends_and_comes_back_is_noticed_by_an_open_page(seen):
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
