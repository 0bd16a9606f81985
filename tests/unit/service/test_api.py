"""The application's answers, without a network."""

from __future__ import annotations

import json
import logging
import re
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


def test_many_formulas_and_many_properties_are_answered_in_order(client, source):
    answer = ask(client, ["Fe2O3", "NaCl"], ("deltae", "bulkmoduluskv"), nearest=2).json()
    assert [r["formula"] for r in answer["results"]] == ["Fe2O3", "NaCl"]
    row = answer["results"][1]["predictions"]["bulkmoduluskv"]
    assert set(row) == {"value", "lower", "upper", "in_domain", "note", "nearest"}
    assert row["lower"] < row["value"] < row["upper"]
    assert row["upper"] - row["lower"] == pytest.approx(2 * 2.1 * 9.1)
    assert len(row["nearest"]) == 2
    assert answer["models"]["bulkmoduluskv"] == {
        "model": "jarvis.bulkmoduluskv", "version": "1", "method": "blend", "unit": "GPa", "coverage": 0.9,
    }  # fmt: skip


def test_values_are_those_of_the_model(client, source):
    formulas = [f"Fe{n}O{m}" for n in range(1, 30) for m in range(1, 30)]
    expected = load_fake(source.root / "jarvis" / "deltae" / "1").predict(fraction_matrix(formulas)).value
    got = [r["predictions"]["deltae"]["value"] for r in ask(client, formulas).json()["results"]]
    assert got == expected.tolist()


@pytest.mark.parametrize("properties", [("deltae",), ("deltae", "bulkmoduluskv")])
def test_what_is_no_formula_gets_an_error_of_its_own_and_the_rest_is_answered(client, properties):
    nonsense = [
        "", " ", "NaCl!", "Fe-2O", "Fe2+", "<b>Fe</b>", "../../etc/passwd", "Xx2", "(NaCl",
        "Ｆｅ", None, 3, 2.5, True, ["Fe"], {"a": 1}, "Fe" * 2000, "𝐅𝐞", "1e400", "(" * 900, "He",
    ]  # fmt: skip
    items = ["Fe2O3", *nonsense, "Ca(Al2[SiO4]2)"]
    answer = ask(client, items, properties)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert len(results) == len(items)
    for item, result in zip(nonsense, results[1:-1], strict=True):
        assert result["error"]["type"] in ("FormulaError", "UnknownElementError"), item
        assert result["error"]["message"]
        assert result["predictions"] == {}
        assert len(result["formula"]) <= 201
    for result in (results[0], results[-1]):
        assert result["error"] is None
        assert set(result["predictions"]) == set(properties)


def test_weight_percent_gives_the_values_of_the_same_composition_in_atoms(client):
    atomic = fraction_matrix(["Ti90Al6V4"], amounts="weight")[0]
    formula = "".join(
        f"{symbol}{share:.10f}" for symbol, share in zip(ELEMENTS, atomic, strict=True) if share
    )
    gate = threading.Barrier(3)

    def value(text: str, amounts: str) -> dict:
        gate.wait()
        (result,) = ask(client, [text], nearest=1, amounts=amounts).json()["results"]
        return result["predictions"]["deltae"]

    asked = [("Ti-6Al-4V", "weight"), ("Ti90Al6V4", "atomic"), (formula, "atomic")]
    with ThreadPoolExecutor(3) as callers:  # at once: requests of both kinds are not computed together
        weight, other, same = callers.map(lambda one: value(*one), asked)
    assert weight["value"] == pytest.approx(same["value"], abs=1e-6)
    assert weight["value"] != pytest.approx(other["value"], abs=1e-3)
    assert weight["note"] == ""
    (refused, large) = ask(client, ["Ti6Al4V1", *["Ti90Al6V4"] * 200], amounts="weight").json()["results"][
        ::200
    ]
    assert "weight percents sum to 100" in refused["error"]["message"]
    assert large["predictions"]["deltae"]["value"] == weight["value"]


def test_an_element_that_was_never_seen_is_flagged_with_its_reason(client):
    (result,) = ask(client, ["XeF2"]).json()["results"]
    assert result["predictions"]["deltae"]["in_domain"] is False
    assert "Xe" in result["predictions"]["deltae"]["note"]


def test_numbers_beyond_all_bounds_end_in_an_error_of_the_item_and_not_in_the_json(client):
    body = b'{"formulas": [1e999, -1e999], "properties": ["deltae"]}'
    answer = client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert [r["error"]["type"] for r in answer.json()["results"]] == ["FormulaError"] * 2
    assert b"NaN" not in answer.content


def test_intervals_without_bounds_are_null(client_of, source):
    def endless(folder):
        model = load_fake(folder)
        predict = model.predict
        model.predict = lambda f, intervals=True: replace(predict(f), upper=predict(f).value + float("inf"))
        return model

    (result,) = ask(client_of(load=endless), ["NaCl"]).json()["results"]
    assert result["predictions"]["deltae"]["upper"] is None


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]
)
def test_a_body_that_is_not_said_to_be_json_is_refused(client, kind):
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post("/v1/predict", content=b'{"formulas": ["NaCl"]}', headers=headers)
    assert error_of(answer) == (415, "MediaTypeError")


def test_bounds_of_a_request(client_of):
    client = client_of(Limits(formulas=5, predictions=6, neighbours=8, body_bytes=300))
    assert ask(client, ["NaCl"] * 5).status_code == 200
    assert error_of(ask(client, ["NaCl"] * 6)) == (422, "InvalidRequestError")
    assert error_of(ask(client, ["NaCl"] * 4, ("deltae", "bulkmoduluskv"))) == (422, "InvalidRequestError")
    assert error_of(ask(client, ["NaCl"] * 3, nearest=3)) == (422, "InvalidRequestError")
    too_large = ask(client, ["N" * 300])
    assert error_of(too_large) == (413, "TooLargeError")
    assert too_large.headers["connection"] == "close"


def test_a_body_without_a_length_is_bounded_as_well(client_of):
    client = client_of(Limits(body_bytes=1000))
    answer = client.post(
        "/v1/predict", content=(b" " * 100 for _ in range(100)), headers={"Content-Type": "application/json"}
    )
    assert error_of(answer) == (413, "TooLargeError")


def test_a_model_that_takes_too_long_ends_in_a_word_on_what_to_do(client_of, source):
    source.add("deltae", seconds=0.3)
    client = client_of(Limits(seconds=0.1))
    answer = ask(client, ["NaCl"])
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


def test_properties_tell_how_good_a_model_is_and_how_it_stands(client, source):
    shown = {p["name"]: p for p in client.get("/v1/properties").json()["properties"]}
    assert set(shown) == {"bulkmoduluskv", "deltae"}
    bulk = shown["bulkmoduluskv"]
    expected = ("jarvis.bulkmoduluskv", "1", "GPa", "ready")
    assert (bulk["model"], bulk["version"], bulk["unit"], bulk["status"]) == expected
    assert bulk["coverage"] == {"stated": 0.9, "measured": pytest.approx(0.9, abs=0.03)}
    assert bulk["holdout_rows"] > 100
    assert bulk["training_rows"] > 300
    assert bulk["holdout_mae"] == pytest.approx(9.1, rel=0.2)


def test_parity_gives_the_hold_out_and_its_error(client):
    points = client.get("/v1/properties/deltae/parity").json()
    assert len(points["formulas"]) == len(points["y_true"]) == len(points["y_pred"]) > 100
    mean = sum(abs(a - b) for a, b in zip(points["y_true"], points["y_pred"], strict=True)) / len(
        points["y_true"]
    )
    assert points["mae"] == pytest.approx(mean)
    assert error_of(client.get("/v1/properties/hardness/parity")) == (404, "UnknownNameError")


def test_models_tell_champion_former_champion_and_challenger(client, source):
    source.add("deltae", "2")
    source.add("deltae", "3", alias="challenger")
    until(lambda: client.get("/v1/properties").json()["properties"][1]["version"] == "2")
    until(lambda: client.get("/v1/models").json()["models"][1]["versions"] == 3)
    answer = client.get("/v1/models").json()
    model = next(m for m in answer["models"] if m["model"] == "jarvis.deltae")
    assert [model[a]["version"] for a in ("champion", "previous", "challenger")] == ["2", "1", "3"]
    assert (model["served"], model["status"], model["property"]) == ("2", "ready", "deltae")
    assert model["champion"]["data_hash"] == "a1b2c3d4" * 4
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
    assert error_of(client_of().post("/v1/refresh")) == (403, "ForbiddenError"), "nobody may without keys"
    reading, reader = new_key("alice", Scope.READ)
    ordering, admin = new_key("bob", Scope.ADMIN)
    client = client_of(keys=KeyRing((reader, admin)))
    bearer = {"Authorization": f"Bearer {reading}"}
    for path in ("/v1/properties", "/v1/models", "/v1/properties/deltae/parity"):
        assert error_of(client.get(path)) == (401, "UnauthorizedError")
        assert client.get(path, headers=bearer).status_code == 200
        assert client.get(path, headers={"X-API-Key": reading}).status_code == 200
    assert error_of(ask(client, ["NaCl"])) == (401, "UnauthorizedError")
    wrong_headers = (
        {"X-API-Key": reading[:-1]},
        {"Authorization": f"Basic {reading}"},
        {"X-API-Key": reader.digest},
    )
    for wrong in wrong_headers:
        assert client.get("/v1/properties", headers=wrong).status_code == 401
    assert client.get("/v1/models").headers["www-authenticate"] == "Bearer"
    for path in ("/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert error_of(client.post("/v1/refresh")) == (401, "UnauthorizedError")
    assert error_of(client.post("/v1/refresh", headers=bearer)) == (403, "ForbiddenError")
    assert client.post("/v1/refresh", headers={"X-API-Key": ordering}).json()["registry"]["up"] is True


def test_metrics_count_requests_predictions_and_errors(client):
    ask(client, ["NaCl", "Fe2O3", "nonsense"])
    client.get("/made/up/path")
    text = client.get("/metrics").text
    assert 'crossprop_requests_total{method="POST",path="/v1/predict",status="200"} 1.0' in text
    assert 'crossprop_requests_total{method="GET",path="unknown",status="404"} 1.0' in text
    assert 'crossprop_predictions_total{property="deltae",version="1"} 2.0' in text
    assert 'crossprop_item_errors_total{type="FormulaError"} 1.0' in text
    assert 'crossprop_request_seconds_count{path="/v1/predict"} 1.0' in text
    assert "crossprop_registry_up 1.0" in text
    assert "crossprop_requests_in_flight 1.0" in text  # this one
    assert "made/up" not in text


@pytest.mark.parametrize("path", ["/", "/v1/properties", "/nowhere", "/docs", "/static/app.js"])
def test_every_answer_has_the_headers_that_keep_a_browser_safe(client, path):
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
    assert re.fullmatch(r"[0-9a-f]{16}", headers["x-request-id"])


def test_unknown_paths_and_methods_are_answered_in_the_same_form(client):
    # A redirect of /docs/ would name a host and a path that a proxy in front may not have.
    for path in ("/nowhere", "/static/../../app.py", "/static/%2e%2e/app.py", "/docs/", "/v1/properties/"):
        answer = client.get(path, follow_redirects=False)
        assert error_of(answer) == (404, "UnknownPathError")
        assert ("slash" in answer.json()["error"]["message"]) == path.endswith("/")
    assert client.head("/v1/predict").status_code == 405
    wrong = client.get("/v1/predict")
    assert error_of(wrong) == (405, "MethodError")
    assert wrong.headers["allow"] == "POST"


def test_the_access_log_tells_who_asked_for_what_and_no_secrets(client_of, caplog):
    secret, key = new_key("alice", Scope.READ)
    client = client_of(keys=KeyRing((key,)))
    with caplog.at_level(logging.INFO, "crossprop.service.access"):
        client.get(
            "/v1/properties?token=hush", headers={"Authorization": f"Bearer {secret}", "X-Request-ID": "r-1"}
        )
    (record,) = [r for r in caplog.records if r.name == "crossprop.service.access"]
    assert record.fields | {"ms": 0, "sent": 0} == {
        "id": "r-1", "client": "testclient", "method": "GET", "path": "/v1/properties", "status": 200, "ms": 0,
        "sent": 0, "key": "alice",
    }  # fmt: skip
    assert record.fields["sent"] > 100
    assert secret not in json.dumps(record.fields)


def test_the_api_page_and_the_openapi_document_describe_every_operation(client):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert not path.startswith(("/", "http"))
        assert client.get(f"/{path}").status_code == 200, path
    document = client.get("/openapi.json").json()
    predict = document["paths"]["/v1/predict"]["post"]
    fields = predict["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert fields["formulas"]["maxItems"] == 10_000
    assert set(predict["responses"]) == {"200", "400", "404", "408", "413", "415", "422", "429", "503"}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
    assert "securitySchemes" not in document["components"]


def test_the_document_asks_for_keys_where_there_are_any(client_of):
    document = client_of(keys=KeyRing((new_key("a", Scope.READ)[1],))).get("/openapi.json").json()
    assert document["paths"]["/v1/models"]["get"]["security"] == [{"bearer": []}, {"header": []}]
    assert "401" in document["paths"]["/v1/models"]["get"]["responses"]
    assert "security" not in document["paths"]["/healthz"]["get"]
