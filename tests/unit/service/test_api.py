"""The application's answers, without a network."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from asking import ask, error_of
from fake_service import load_fake
from waiting import until

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.service.auth import KeyRing, Scope, new_key
from crossprop.service.settings import Limits
from crossprop.service.sources import short_label


def test_many_formulas_and_many_properties_are_answered_in_order(client):
    answer = ask(client, ["Fe2O3", "NaCl"], ("deltae", "bulkmoduluskv"), nearest=2).json()
    assert [r["formula"] for r in answer["results"]] == ["Fe2O3", "NaCl"]
    row = answer["results"][1]["predictions"]["bulkmoduluskv"]
    assert set(row) == {"value", "lower", "upper", "in_domain", "note", "nearest"}
    assert row["lower"] < row["value"] < row["upper"]
    assert row["upper"] - row["lower"] == pytest.approx(2 * 2.1 * 9.1)
    assert len(row["nearest"]) == 2
    expected = {"version": "1", "method": "blend", "unit": "GPa", "coverage": 0.9}
    assert answer["models"]["bulkmoduluskv"] == expected | {"model": "jarvis.bulkmoduluskv"}
    (result,) = ask(client, ["XeF2"]).json()["results"]
    assert result["predictions"]["deltae"]["in_domain"] is False
    assert "Xe" in result["predictions"]["deltae"]["note"]


@pytest.mark.parametrize("properties", [("deltae",), ("deltae", "bulkmoduluskv")])
def test_what_is_no_formula_gets_an_error_of_its_own_and_the_rest_is_answered(client, properties):
    nonsense = ["", "NaCl!", "<b>Fe</b>", "Xx2", None, 2.5, True, ["Fe"], {"a": 1}, "Fe" * 2000, "(" * 900]
    answer = ask(client, ["Fe2O3", *nonsense, "Ca(Al2[SiO4]2)"], properties)
    assert answer.status_code == 200
    first, *bad, last = answer.json()["results"]
    for item, result in zip(nonsense, bad, strict=True):
        assert result["error"]["type"] in ("FormulaError", "UnknownElementError"), item
        assert result["error"]["message"]
        assert result["predictions"] == {}
        assert len(result["formula"]) <= 201
    for result in (first, last):
        assert result["error"] is None
        assert set(result["predictions"]) == set(properties)


def test_weight_percent_gives_the_values_of_the_same_composition_in_atoms(client):
    atomic = zip(ELEMENTS, fraction_matrix(["Ti90Al6V4"], amounts="weight")[0], strict=True)
    formula = "".join(f"{symbol}{share:.10f}" for symbol, share in atomic if share)
    gate = threading.Barrier(3)

    def predicted(asked: tuple[str, str]) -> dict:
        gate.wait()
        (result,) = ask(client, [asked[0]], nearest=1, amounts=asked[1]).json()["results"]
        return result["predictions"]["deltae"]

    asked = [("Ti-6Al-4V", "weight"), ("Ti90Al6V4", "atomic"), (formula, "atomic")]
    with ThreadPoolExecutor(3) as callers:  # at once: requests of both kinds are not computed together
        weight, other, same = callers.map(predicted, asked)
    assert weight["value"] == pytest.approx(same["value"], abs=1e-6)
    assert weight["value"] != pytest.approx(other["value"], abs=1e-3)
    assert weight["note"] == ""
    results = ask(client, ["Ti6Al4V1", *["Ti90Al6V4"] * 200], amounts="weight").json()["results"]
    assert "weight percents sum to 100" in results[0]["error"]["message"]
    assert results[200]["predictions"]["deltae"]["value"] == weight["value"]


def test_numbers_that_are_not_finite_never_reach_the_json(client_of):
    def endless(folder):
        model = load_fake(folder)
        predict = model.predict
        model.predict = lambda f, intervals=True: replace(predict(f), upper=predict(f).value + float("inf"))
        return model

    client = client_of(load=endless)
    body = b'{"formulas": [1e999, -1e999, "NaCl"], "properties": ["deltae"]}'
    answer = client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    *bad, good = answer.json()["results"]
    assert [result["error"]["type"] for result in bad] == ["FormulaError"] * 2
    assert good["predictions"]["deltae"]["upper"] is None
    assert b"NaN" not in answer.content


def test_bounds_of_a_request(client_of):
    client = client_of(Limits(formulas=5, predictions=6, neighbours=8, body_bytes=300))
    assert ask(client, ["NaCl"] * 5).status_code == 200
    assert error_of(ask(client, ["NaCl"] * 6)) == (422, "InvalidRequestError")
    assert error_of(ask(client, ["NaCl"] * 4, ("deltae", "bulkmoduluskv"))) == (422, "InvalidRequestError")
    assert error_of(ask(client, ["NaCl"] * 3, nearest=3)) == (422, "InvalidRequestError")
    too_large = ask(client, ["N" * 300])
    assert error_of(too_large) == (413, "TooLargeError")
    assert too_large.headers["connection"] == "close"
    pieces = (b" " * 100 for _ in range(100))  # without a length
    answer = client.post("/v1/predict", content=pieces, headers={"Content-Type": "application/json"})
    assert error_of(answer) == (413, "TooLargeError")


def test_a_model_that_takes_too_long_ends_in_advice(client_of, source):
    source.add("deltae", seconds=0.3)
    answer = ask(client_of(Limits(seconds=0.1)), ["NaCl"])
    assert error_of(answer) == (503, "UnavailableError")
    assert "took longer than 0.1 seconds" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"] == "5"


def test_a_model_that_fails_is_named_and_its_reason_stays_in_the_log(client_of, caplog):
    def failing(folder):
        model = load_fake(folder)
        if folder.parent.name == "deltae":
            checks = iter([model.predict])  # the first prediction is the check when it is loaded
            model.predict = lambda f, intervals=True: next(checks)(f)
        return model

    client = client_of(load=failing)
    answer = ask(client, ["NaCl"], ("bulkmoduluskv", "deltae"))
    assert error_of(answer) == (503, "UnavailableError")
    assert "deltae (version 1) failed: StopIteration" in answer.json()["error"]["message"]
    assert ask(client, ["NaCl"], ("bulkmoduluskv",)).status_code == 200
    assert "StopIteration" in caplog.text


def test_a_failure_of_the_service_itself_tells_an_id_and_nothing_else(client, monkeypatch, caplog):
    monkeypatch.setattr(client.app.state.service, "properties", lambda: 1 / 0)
    with caplog.at_level(logging.ERROR, "crossprop.service"):
        answer = client.get("/v1/properties")
    assert error_of(answer) == (500, "InternalError")
    assert answer.headers["x-request-id"] in answer.text
    assert "ZeroDivision" not in answer.text
    assert "ZeroDivision" in caplog.text


def test_properties_tell_how_good_a_model_is_and_how_it_stands(client):
    bulk, deltae = client.get("/v1/properties").json()["properties"]
    assert (bulk["name"], deltae["name"]) == ("bulkmoduluskv", "deltae")
    expected = ("jarvis.bulkmoduluskv", "1", "GPa", "ready")
    assert (bulk["model"], bulk["version"], bulk["unit"], bulk["status"]) == expected
    assert bulk["coverage"] == {"stated": 0.9, "measured": pytest.approx(0.9, abs=0.03)}
    assert bulk["holdout_rows"] > 100
    assert bulk["training_rows"] > 300
    assert bulk["holdout_mae"] == pytest.approx(9.1, rel=0.2)
    assert 0.9 < bulk["holdout_r2"] < 1.0


def test_labels_are_short():
    named = "Decadic logarithm of the n-type electronic thermal conductivity over the relaxation time, in 1e9 W/(m K s)"
    assert short_label(named) == "log₁₀ κₑ/τ (n-type)"
    assert short_label("p-type power factor at 600 K and 1e20 carriers/cm³") == "Power factor (p-type)"
    assert short_label("Band gap computed with the TBmBJ potential") == "Band gap (TBmBJ)"
    assert short_label("hardness") == "hardness"


def test_parity_gives_the_hold_out_and_its_error(client):
    points = client.get("/v1/properties/deltae/parity").json()
    pairs = list(zip(points["y_true"], points["y_pred"], strict=True))
    assert len(points["formulas"]) == len(pairs) > 100
    assert points["mae"] == pytest.approx(sum(abs(a - b) for a, b in pairs) / len(pairs))
    assert error_of(client.get("/v1/properties/hardness/parity")) == (404, "UnknownNameError")


def test_models_tell_champion_former_champion_and_challenger(client, source):
    source.add("deltae", "2")
    source.add("deltae", "3", alias="challenger")
    until(lambda: client.get("/v1/properties").json()["properties"][1]["version"] == "2")
    until(lambda: client.get("/v1/models").json()["models"][1]["versions"] == 3)
    answer = client.get("/v1/models").json()
    model = answer["models"][1]
    assert [model[a]["version"] for a in ("champion", "previous", "challenger")] == ["2", "1", "3"]
    assert (model["model"], model["served"], model["status"]) == ("jarvis.deltae", "2", "ready")
    assert model["property"] == "deltae"
    assert model["champion"]["data_hash"] == "a1b2" * 8
    assert answer["registry"] == {"where": "a made-up registry", "up": True, "note": ""}


def test_without_a_champion_the_service_lives_and_says_what_to_do(client_of, source):
    for name in list(source.versions):
        source.move(name, None)
    client = client_of()
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/").status_code == 200
    answer = client.get("/readyz")
    assert error_of(answer) == (503, "UnavailableError")
    assert "crossprop promote" in answer.json()["error"]["message"]
    assert "crossprop promote" in ask(client, ["NaCl"]).json()["error"]["message"]
    assert client.get("/v1/properties").json() == {"properties": []}
    source.move("jarvis.deltae", "1")
    until(lambda: client.get("/readyz").status_code == 200)


def test_keys_close_the_api_and_nothing_that_machines_watch(client_of):
    assert error_of(client_of().post("/v1/refresh")) == (403, "ForbiddenError"), "refused without keys"
    reading, reader = new_key("alice", Scope.READ)
    ordering, admin = new_key("bob", Scope.ADMIN)
    client = client_of(keys=KeyRing((reader, admin)))
    bearer = {"Authorization": f"Bearer {reading}"}
    for path in ("/v1/properties", "/v1/models", "/v1/properties/deltae/parity"):
        assert error_of(client.get(path)) == (401, "UnauthorizedError")
        assert client.get(path, headers=bearer).status_code == 200
        assert client.get(path, headers={"X-API-Key": reading}).status_code == 200
    assert error_of(ask(client, ["NaCl"])) == (401, "UnauthorizedError")
    basic = {"Authorization": f"Basic {reading}"}
    for wrong in ({"X-API-Key": reading[:-1]}, basic, {"X-API-Key": reader.digest}):
        answer = client.get("/v1/properties", headers=wrong)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    for path in ("/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert error_of(client.post("/v1/refresh")) == (401, "UnauthorizedError")
    assert error_of(client.post("/v1/refresh", headers=bearer)) == (403, "ForbiddenError")
    assert client.post("/v1/refresh", headers={"X-API-Key": ordering}).json()["registry"]["up"] is True
    document = client.get("/openapi.json").json()
    assert document["paths"]["/v1/models"]["get"]["security"] == [{"bearer": []}, {"header": []}]
    assert "401" in document["paths"]["/v1/models"]["get"]["responses"]
    assert "security" not in document["paths"]["/healthz"]["get"]
