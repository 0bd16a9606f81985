"""The page in headless Chromium: what is asked and answered; small, readable, on a phone, on paper, by keyboard."""

import csv
import io
from pathlib import Path

import pytest
from browsing import ANSWER, FAINT, HIDDEN_OVERFLOW, choose, predicted, visit

from crossprop.data.compositions import ELEMENTS

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}


def saved_csv(page):
    with page.expect_download() as started:
        page.click("#csv")
    assert started.value.suggested_filename.endswith(".csv")
    return Path(started.value.path()).read_bytes().decode("utf-8-sig")


def test_typed_formulas_are_predicted_with_interval_domain_and_model(seen):
    page = seen.open()
    assert page.locator("#examples button").count() > 0
    page.fill("#formulas", "NaCl\nMg2(SiO4), Fe2O3")
    choose(page, "bulkmoduluskv")
    page.keyboard.press("Control+Enter")
    assert predicted(page) == ["NaCl", "Mg2(SiO4)", "Fe2O3"]
    asked = {"formulas": ["NaCl"], "properties": ["bulkmoduluskv"]}
    answer = page.request.post(f"{seen.address}v1/predict", data=asked).json()
    cell = answer["results"][0]["predictions"]["bulkmoduluskv"]
    shown = page.locator(".cell").first.inner_text()
    assert f"{cell['value']:.0f}" in shown
    assert f"± {(cell['upper'] - cell['lower']) / 2:.0f}" in shown
    assert "in domain" in shown
    detail = page.locator("#detail")
    detail.locator("svg.plot").wait_for()
    assert "jarvis.bulkmoduluskv v1" in detail.inner_text()
    assert "90 % stated" in detail.inner_text()
    detail.locator(".neighbours tbody tr").first.wait_for()
    assert detail.locator(".neighbours tbody tr").count() == 5
    known = page.request.get(f"{seen.address}v1/properties").json()["properties"][0]
    error = f"MAE {known['holdout_mae']:.2f}"
    for place in ("#properties", "#table thead", "#detail .facts"):  # one number for the same error
        assert error in page.inner_text(place)
        assert f"R² {known['holdout_r2']:.2f}" in page.inner_text(place)
    assert f"{error} GPa" in detail.locator("svg.plot").get_attribute("aria-label")


def test_a_pasted_spreadsheet_column_is_found_among_others(seen):
    page = seen.open()
    page.evaluate("navigator.clipboard.writeText('id\\tFormula\\tE\\r\\nS1\\tFe₂O₃\\t1\\r\\nB2\\tNaCl\\t-1\\n')")
    page.focus("#formulas")
    page.keyboard.press("Control+V")
    page.wait_for_selector("#formulas-summary:has-text('2 formulas')")
    assert "Column 2 of 3" in page.inner_text("#formulas-summary")
    page.fill("#formulas", "")
    page.evaluate("navigator.clipboard.writeText('Material\\tformula\\nmp-1\\tFe2O3\\nmp-2\\tNaCl\\n')")
    page.focus("#formulas")
    page.keyboard.press("Control+V")
    page.wait_for_selector("#formulas-summary:has-text('Column 2 of 2')")
    page.click("#predict")
    assert predicted(page) == ["Fe2O3", "NaCl"]


def test_the_periodic_table_writes_formulas_by_mouse_and_by_keyboard(seen):
    page = seen.open()
    for symbol in ("Fe", "O", "O"):
        page.click(f'.pt [data-symbol="{symbol}"]')
    assert page.input_value("#formulas") == "FeO2"
    page.get_by_label("Amount of Fe").fill("2.5")
    page.get_by_label("Amount of Fe").press("Tab")
    assert page.input_value("#formulas") == "Fe2.5O2"
    page.click("text=Next formula")
    page.focus('.pt [data-symbol="O"]')
    # S, Cl, then Na, which is taken away once of twice
    for key in ("ArrowDown", "ArrowRight", "Enter", "Home", "Enter", "Enter", "Backspace"):
        page.keyboard.press(key)
    assert page.input_value("#formulas") == "Fe2.5O2\nClNa"
    assert page.locator('.pt-element[tabindex="0"]').count() == 1
    page.keyboard.press("End")  # Ar, which the models do not know
    page.keyboard.press("Enter")
    assert page.input_value("#formulas") == "Fe2.5O2\nClNa"
    assert "not known to the models" in page.inner_text("#element-caption")
    free = page.locator('.pt-element:not([aria-disabled="true"]) .pt-symbol').all_inner_texts()
    assert sorted(free) == sorted(ELEMENTS)
    assert page.locator(".pt-element").count() == 118


def test_a_formula_with_decimal_commas_is_one_formula_for_the_periodic_table_too(seen):
    page = seen.open()
    page.fill("#formulas", "La0,7Sr0,3Xx")
    page.click("#predict")
    page.click("text=Correct it in the list")
    assert page.evaluate("getSelection().toString()") == "La0,7Sr0,3Xx"
    page.fill("#formulas", "La0,7Sr0,3Mn, NaCl")
    for presses in (4, 7):  # behind a comma, and within
        page.press("#formulas", "Control+Home")
        for _ in range(presses):
            page.press("#formulas", "ArrowRight")
        page.click('.pt [data-symbol="O"]')
    assert page.input_value("#formulas") == "La0,7Sr0,3MnOO, NaCl"


def test_an_amount_is_taken_while_it_is_typed(seen):
    page = seen.open()
    page.fill("#formulas", "FeO")
    amount = page.get_by_label("Amount of Fe")
    amount.fill("2")
    assert page.input_value("#formulas") == "Fe2O"
    amount.press("Tab")
    assert page.evaluate("document.activeElement.closest('label')?.innerText").endswith("Amount of O")
    amount.fill("3")
    page.click("text=Next formula")
    assert page.input_value("#formulas") == "Fe3O\n"


def test_the_button_of_a_group_chooses_what_it_says(seen):
    page = seen.open()
    for group in page.locator("#properties .group").all():
        button, boxes = group.locator(".group-all"), group.locator("input:enabled")
        if boxes.count() == 0:
            continue
        for word, other in (("all", "none"), ("none", "all")):
            for box in boxes.all():
                box.set_checked(word == "none")
            assert button.inner_text() == word
            button.click()
            assert button.inner_text() == other
            assert {box.is_checked() for box in boxes.all()} == {word == "all"}


def test_the_csv_holds_every_column_with_units_and_no_live_formulas(seen):
    hostile = ["=1+2", "+1", "-2+3", "@SUM(A1)", "\uff1d1+2", "\uff20SUM(A1)", '=HYPERLINK("//x")']
    page = seen.predict("NaCl", '"quoted', "Pu2O3", *hostile, properties=("bulkmoduluskv", "deltae"))
    raw = saved_csv(page)
    assert raw.count("\r\n") == raw.count("\n") == 11
    head, *rows = csv.reader(io.StringIO(raw))
    values = ["bulkmoduluskv [GPa]", "bulkmoduluskv lower [GPa]", "bulkmoduluskv upper [GPa]"]
    assert head[:4] == ["formula", *values]
    assert {len(row) for row in rows} == {len(head)} == {16}
    assert [row[0] for row in rows] == ["NaCl", '"quoted', "Pu2O3", *(f"'{text}" for text in hostile)]
    assert not [cell for row in rows[3:] for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    first, _, strange = (dict(zip(head, row, strict=True)) for row in rows[:3])
    value, lower, upper = (float(first[f"deltae{part} [eV/atom]"]) for part in ("", " lower", " upper"))
    assert lower < value < upper
    assert first["deltae model"] == "jarvis.deltae version 1 (blend)"
    assert rows[3][-1].startswith("FormulaError")
    assert strange["deltae in domain"] == "no"


def test_amounts_may_be_weight_percent_in_predictions_links_and_files(seen):
    page = seen.open()
    page.fill("#formulas", "Ti-6Al-4V")
    page.check("#weight")
    choose(page, "bulkmoduluskv")
    with page.expect_request("**/v1/predict") as asked:
        page.click("#predict")
    assert asked.value.post_data_json["amounts"] == "weight"
    assert predicted(page) == ["Ti-6Al-4V"]
    assert "Amounts were read as weight percent" in page.inner_text("#status")
    page.locator("#detail .neighbours tbody tr").first.wait_for()
    page.uncheck("#weight")
    assert "formula [weight %]" in saved_csv(page)
    page.click("#copy")
    page.wait_for_selector("#status:text-is('Link copied.')")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    assert predicted(page) == ["Ti-6Al-4V"]
    assert page.is_checked("#weight")
    assert page.locator("#table thead th").count() == 2


def test_thousands_of_formulas_are_asked_in_parts_of_one_version_and_shown_in_pages(seen):
    asked: list[int] = []

    def answer(route):
        asked.append(len(route.request.post_data_json["formulas"]))
        got = route.fetch()  # version 2 is promoted after the first part
        body = got.text().replace('"version":"1"', f'"version":"{min(2, len(asked))}"')
        route.fulfill(response=got, body=body)

    seen.page.route("**/v1/predict", answer)
    page = seen.predict(*(f"Na{i + 1}Cl" for i in range(1500)))
    assert len(predicted(page)) == 100
    page.click(".more")
    assert page.locator("#table tbody tr").count() == 200
    assert "1,500 predictions for 1,500 formulas" in page.inner_text("#status")
    assert asked[:4] == [1000, 500, 1000, 500]
    assert "v2" in page.inner_text("#table thead")
    page.click('[data-sort="bulkmoduluskv"]')
    assert page.locator('th[aria-sort="descending"]').count() == 1
    values = page.locator("#table .cell strong").all_inner_texts()
    numbers = [float(v.replace("\u2212", "-").replace(",", "")) for v in values]
    assert numbers == sorted(numbers, reverse=True)


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground_and_the_api_can_be_tried_without_other_servers(browser, address, scheme):
    with visit(browser, address, color_scheme=scheme) as here:
        page = here.open(f"{ANSWER},spillage")
        predicted(page)
        page.wait_for_selector("#detail svg.plot")
        page.wait_for_selector("#detail .neighbours")
        read, faint = page.evaluate(FAINT)
        assert (read > 200, faint) == (True, [])
        page.goto(f"{here.address}docs")
        page.click("#operations-models-predict_v1_predict_post button")
        page.wait_for_selector("text=Try it out")
        page.wait_for_selector(".responses-wrapper .microlight")
        read, faint = page.evaluate(FAINT)
        assert (read > 100, faint) == (True, [])
        page.click("text=Try it out")
        page.click("button.execute")
        page.wait_for_selector(".live-responses-table :text('jarvis.bulkmoduluskv')")
        assert f"{here.address}v1/predict" in page.inner_text(".curl-command")
