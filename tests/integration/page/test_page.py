"""The page in headless Chromium: what is asked, and how it is answered."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from browsing import ANSWER, Visit, choose, predicted

from crossprop.data.compositions import ELEMENTS


def test_typed_formulas_are_predicted_with_interval_domain_and_model(seen: Visit) -> None:
    page = seen.open()
    page.fill("#formulas", "NaCl\nMg2(SiO4), Fe2O3")
    choose(page, "bulkmoduluskv")
    page.keyboard.press("Control+Enter")
    assert predicted(page) == ["NaCl", "Mg2(SiO4)", "Fe2O3"]
    answer = page.request.post(
        f"{seen.address}v1/predict", data={"formulas": ["NaCl"], "properties": ["bulkmoduluskv"]}
    ).json()
    cell = answer["results"][0]["predictions"]["bulkmoduluskv"]
    shown = page.locator(".cell").first.inner_text()
    assert f"{cell['value']:.0f}" in shown
    assert f"± {(cell['upper'] - cell['lower']) / 2:.0f}" in shown
    assert "in domain" in shown
    assert "blend v1 · MAE" in page.inner_text("#table thead")
    detail = page.locator("#detail")
    detail.locator("svg.plot").wait_for()
    assert "jarvis.bulkmoduluskv v1" in detail.inner_text()
    assert "90 % stated" in detail.inner_text()
    assert "mean absolute error" in detail.locator("svg.plot").get_attribute("aria-label")
    detail.locator(".neighbours tbody tr").first.wait_for()
    assert detail.locator(".neighbours tbody tr").count() == 5


def test_a_pasted_spreadsheet_column_is_found_among_others(seen: Visit) -> None:
    page = seen.open()
    page.evaluate(
        "navigator.clipboard.writeText('id\\tformula\\tE\\r\\n1\\tFe₂O₃\\t0.5\\r\\n2\\tNaCl\\t-1.25\\r\\n')"
    )
    page.focus("#formulas")
    page.keyboard.press("Control+V")
    page.wait_for_selector("#formulas-summary:has-text('2 formulas')")
    assert "2 formulas" in page.inner_text("#formulas-summary")
    assert "Column 2 of 3" in page.inner_text("#formulas-summary")
    page.click("#predict")
    assert predicted(page) == ["Fe2O3", "NaCl"]


def test_the_periodic_table_writes_formulas_by_mouse_and_by_keyboard(seen: Visit) -> None:
    page = seen.open()
    page.click('[aria-label^="Fe,"]')
    page.click('[aria-label^="O,"]')
    page.click('[aria-label^="O,"]')
    assert page.input_value("#formulas") == "FeO2"
    page.get_by_label("Amount of Fe").fill("2.5")
    page.get_by_label("Amount of Fe").press("Tab")
    assert page.input_value("#formulas") == "Fe2.5O2"
    page.click("text=Next formula")
    page.focus('[aria-label^="O,"]')
    page.keyboard.press("ArrowDown")  # S
    page.keyboard.press("ArrowRight")  # Cl
    page.keyboard.press("Enter")
    page.keyboard.press("Home")  # Na
    for key in ("Enter", "Enter", "Backspace"):
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


def test_the_csv_holds_every_column_with_units_and_no_live_formulas(seen: Visit) -> None:
    page = seen.open()
    page.fill("#formulas", 'NaCl\n=1+2\n"quoted\nPu2O3')
    choose(page, "bulkmoduluskv", "deltae")
    page.click("#predict")
    page.wait_for_selector("#table tbody tr")
    with page.expect_download() as started:
        page.click("#csv")
    raw = Path(started.value.path()).read_bytes().decode("utf-8-sig")
    assert started.value.suggested_filename.endswith(".csv")
    assert raw.count("\r\n") == raw.count("\n") == 5
    head, *rows = csv.reader(io.StringIO(raw))
    values = ["bulkmoduluskv [GPa]", "bulkmoduluskv lower [GPa]", "bulkmoduluskv upper [GPa]"]
    assert head[:4] == ["formula", *values]
    assert {len(row) for row in rows} == {len(head)} == {16}
    assert [row[0] for row in rows] == ["NaCl", "'=1+2", '"quoted', "Pu2O3"]
    first = dict(zip(head, rows[0], strict=True))
    value, lower, upper = (float(first[f"deltae{part} [eV/atom]"]) for part in ("", " lower", " upper"))
    assert lower < value < upper
    assert first["deltae model"] == "jarvis.deltae version 1 (blend)"
    assert rows[1][-1].startswith("FormulaError")
    assert dict(zip(head, rows[3], strict=True))["deltae in domain"] == "no"


def test_a_copied_link_shows_the_same_answer_elsewhere(seen: Visit) -> None:
    page = seen.open(ANSWER)
    before = predicted(page)
    page.click("#copy")
    page.wait_for_selector("#status:text-is('Link copied.')")
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    assert predicted(page) == before
    assert page.locator("#table thead th").count() == 3


def test_amounts_may_be_weight_percent_in_predictions_links_and_files(seen: Visit) -> None:
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
    with page.expect_download() as started:
        page.click("#csv")
    assert "formula [weight %]" in Path(started.value.path()).read_text("utf-8-sig")
    link = page.evaluate("location.href")
    page.goto("about:blank")
    page.goto(link)
    assert predicted(page) == ["Ti-6Al-4V"]
    assert page.is_checked("#weight")


def test_thousands_of_formulas_are_asked_in_parts_and_shown_in_pages(seen: Visit) -> None:
    page = seen.open()
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if r.url.endswith("/v1/predict") else None)
    page.evaluate(
        "navigator.clipboard.writeText(Array.from({length: 1500}, (_, i) => `Na${i + 1}Cl`).join('\\n'))"
    )
    page.focus("#formulas")
    page.keyboard.press("Control+V")
    choose(page, "bulkmoduluskv")
    page.click("#predict")
    assert len(predicted(page)) == 100
    page.click(".more")
    assert page.locator("#table tbody tr").count() == 200
    assert "1,500 predictions for 1,500 formulas" in page.inner_text("#status")
    assert len(asked) >= 2
    page.click('[data-sort="bulkmoduluskv"]')
    assert page.locator('th[aria-sort="descending"]').count() == 1
    values = page.locator("#table .cell strong").all_inner_texts()
    numbers = [float(v.replace("\u2212", "-").replace(",", "")) for v in values]
    assert numbers == sorted(numbers, reverse=True)
