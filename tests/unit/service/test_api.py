"""The application without a network: what it answers, and what holds for every request."""

import gzip
import json
import logging
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import pytest
from fake_service import load_fake
from waiting import until

from crossprop.data.compositions import ELEMENTS, fraction_matrix
from crossprop.methods import Method
from crossprop.service import schemas
from crossprop.service.app import STATIC
from crossprop.service.auth import Scope, new_key
from crossprop.service.settings import Limits
from crossprop.service.sources import short_label

REQUEST = b'{"formulas": ["NaCl"], "properties": ["deltae"]}'
VALID = json.loads(REQUEST)


def ask(client, formulas, properties=("deltae",), **more):
    return client.post("/v1/predict", json={"formulas": formulas, "properties": list(properties), **more})


def error_of(response):
    assert set(response.json()) == {"error"}
    return response.status_code, response.json()["error"]["type"]


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

    def predicted(asked):
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


def test_properties_tell_how_good_a_model_is_how_it_stands_and_its_hold_out(client):
    bulk, deltae = client.get("/v1/properties").json()["properties"]
    assert (bulk["name"], deltae["name"]) == ("bulkmoduluskv", "deltae")
    expected = ("jarvis.bulkmoduluskv", "1", "GPa", "ready")
    assert (bulk["model"], bulk["version"], bulk["unit"], bulk["status"]) == expected
    assert bulk["coverage"] == {"stated": 0.9, "measured": pytest.approx(0.9, abs=0.03)}
    assert bulk["holdout_rows"] > 100
    assert bulk["training_rows"] > 300
    assert bulk["holdout_mae"] == pytest.approx(9.1, rel=0.2)
    assert 0.9 < bulk["holdout_r2"] < 1.0
    points = client.get("/v1/properties/deltae/parity").json()
    pairs = list(zip(points["y_true"], points["y_pred"], strict=True))
    assert len(points["formulas"]) == len(pairs) > 100
    assert points["mae"] == pytest.approx(sum(abs(a - b) for a, b in pairs) / len(pairs))
    assert error_of(client.get("/v1/properties/hardness/parity")) == (404, "UnknownNameError")


def test_a_hold_out_is_read_once_and_one_whose_files_were_removed_is_told(client, source):
    first = client.get("/v1/properties/deltae/parity").json()
    shutil.rmtree(source.root / "jarvis")
    assert client.get("/v1/properties/deltae/parity").json() == first
    gone = client.get("/v1/properties/bulkmoduluskv/parity")
    assert error_of(gone) == (503, "UnavailableError")


def test_the_page_has_words_for_every_method():
    words = re.findall(r'^ {4}(\w+): "', (STATIC / "format.js").read_text(), flags=re.MULTILINE)
    assert set(Method) == set(words)


def test_labels_are_short():
    named = "Decadic logarithm of the n-type electronic thermal conductivity over the relaxation time, in 1e9 W/(m K s)"
    assert short_label(named) == "log₁₀ κₑ/τ (n-type)"
    assert short_label("p-type power factor at 600 K and 1e20 carriers/cm³") == "Power factor (p-type)"
    assert short_label("Band gap computed with the TBmBJ potential") == "Band gap (TBmBJ)"
    for own in ("hardness", "Logarithm of the viscosity to base e", "Hardness at 5 % load"):
        assert short_label(own) == own


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
    client = client_of(keys=(reader, admin))
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


def test_head_gives_the_headers_of_get_and_no_body(client):
    for path in ("/", "/healthz", "/metrics", "/openapi.json", "/static/app.js"):
        head, get = client.head(path), client.get(path)
        assert 'crossprop_requests_total{method="HEAD"' in client.get("/metrics").text
        assert head.status_code == 200
        assert head.content == b""
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics":  # which counts both
            assert head.headers["content-length"] == get.headers["content-length"]


def test_a_body_that_is_not_said_to_be_json_or_is_compressed_is_refused(client):
    for kind in ("", "text/plain", "application/x-www-form-urlencoded"):
        answer = client.post("/v1/predict", content=REQUEST, headers={"Content-Type": kind} if kind else {})
        assert error_of(answer) == (415, "MediaTypeError")
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = client.post("/v1/predict", content=gzip.compress(REQUEST), headers=headers)
    assert error_of(answer) == (415, "UnsupportedCodingError")
    assert answer.headers["accept-encoding"] == "identity"


def test_a_body_that_is_no_request_is_refused_with_the_place_and_the_reason(client):
    for body, status, said in (
        (b"", 400, "no JSON"),
        (b'{"formulas": [NaN], "properties": ["deltae"]}', 400, "no JSON"),
        (b"[" * 5000, 400, "no JSON"),
        (REQUEST.decode().encode("utf-16"), 400, "but JSON is UTF-8"),
        (b"null", 422, "the body: "),
        (REQUEST.replace(b"{", b'{"formulas": [], '), 422, "holds 'formulas' twice"),
        ({"properties": ["deltae"]}, 422, "formulas: Field required"),
        (VALID | {"formula": ["NaCl"]}, 422, "formula: Extra inputs"),
        (VALID | {"nearest": True}, 422, "nearest: Value error, must be a whole number"),
        (VALID | {"nearest": 11}, 422, "nearest: Input should be less than or equal to 10"),
        (VALID | {"properties": ["?!"]}, 404, "There are: bulkmoduluskv, deltae."),
    ):
        content = body if isinstance(body, bytes) else json.dumps(body)
        headers = {"Content-Type": "application/json; charset=something"}
        answer = client.post("/v1/predict", content=content, headers=headers)
        assert answer.status_code == status
        assert said in answer.json()["error"]["message"]


def test_thousands_of_unknown_fields_are_counted_and_not_described_one_by_one(client, monkeypatch):
    monkeypatch.setattr(schemas.PredictRequest, "model_validate", None)  # which would take seconds
    answer = client.post("/v1/predict", json=VALID | {f"f{i}": i for i in range(9000)})
    assert error_of(answer) == (422, "InvalidRequestError")
    assert "f4: Extra inputs are not permitted (and 8995 more). See" in answer.json()["error"]["message"]


def test_unusual_but_valid_bodies_are_read(client):
    for body, kind in (
        (b"\xef\xbb\xbf" + REQUEST, "application/json"),
        (REQUEST.replace(b"}", b', "nearest": 1.0}'), "Application/JSON; charset=utf-8"),
        (REQUEST.replace(b'"NaCl"', b'"formulas", "formulas", %s' % (b"1" * 400)), "application/json"),
    ):
        assert client.post("/v1/predict", content=body, headers={"Content-Type": kind}).status_code == 200


def test_a_property_that_is_not_served_is_answered_with_the_one_that_is_meant(client):
    for name in ("Deltae", "delta_e", "formation energy", "deltea"):
        answer = ask(client, ["NaCl"], [name])
        assert error_of(answer) == (404, "UnknownNameError")
        assert "Did you mean deltae?" in answer.json()["error"]["message"]


def test_before_anything_is_served_callers_are_told_to_come_back(client_of, source):
    source.down = "not up yet"
    client = client_of()
    for answer in (ask(client, ["NaCl"]), client.get("/v1/properties/deltae/parity")):
        assert error_of(answer) == (503, "UnavailableError")
        assert answer.headers["retry-after"] == "2"


def test_a_request_for_a_host_that_is_not_allowed_is_refused(client_of):
    """A page of another site that lets its name point to this address is not answered."""
    for settings, allowed, refused in (
        ({}, ["", "LOCALHOST:8000", "[::1]:80"], ["rebound.example", "localhost.a.example", "10.0.0.7"]),
        ({"any_address": True}, ["10.0.0.7:8000", "[fe80::7]"], ["rebound.example"]),
        ({"hosts": ("a.example", "*.lab.example")}, ["a.example", "b.lab.example:80"], ["lab.example"]),
        ({"hosts": ("*",)}, ["rebound.example"], []),
    ):
        client = client_of(**settings)
        for path, host in product(("/v1/properties", "/"), allowed):
            assert client.get(path, headers={"Host": host}).status_code == 200
        for path, host in product(("/v1/properties", "/"), refused):
            assert error_of(client.get(path, headers={"Host": host})) == (400, "UnknownHostError")


def test_every_answer_has_the_headers_that_keep_a_browser_safe(client):
    for path in ("/", "/v1/properties", "/nowhere", "/docs", "/static/app.js"):
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


def test_metrics_count_requests_predictions_and_errors(client):
    ask(client, ["NaCl", "Fe2O3", "nonsense"])
    ask(client, ["NaCl"], ["jarvis.deltae"])  # the registered name counts for its property
    client.get("/made/up/path")
    text = client.get("/metrics").text
    for line in (
        'requests_total{method="POST",path="/v1/predict",status="200"} 2.0',
        'requests_total{method="GET",path="unknown",status="404"} 1.0',
        'predictions_total{property="deltae",version="1"} 3.0',
        'item_errors_total{type="FormulaError"} 1.0',
        'request_seconds_count{path="/v1/predict"} 2.0',
        "registry_up 1.0",
        "requests_in_flight 1.0",  # this one
    ):
        assert f"crossprop_{line}" in text
    assert "made/up" not in text


def test_the_access_log_tells_who_asked_for_what_and_no_secrets(client_of, caplog):
    secret, key = new_key("alice", Scope.READ)
    client = client_of(keys=(key,))
    headers = {"Authorization": f"Bearer {secret}", "X-Request-ID": "r-1"}
    with caplog.at_level(logging.INFO, "crossprop.service.access"):
        client.get("/v1/properties?token=hush", headers=headers)
    (record,) = [r for r in caplog.records if r.name == "crossprop.service.access"]
    expected = {"id": "r-1", "client": "testclient", "path": "/v1/properties", "status": 200, "key": "alice"}
    assert expected.items() <= record.fields.items()
    assert secret not in str(record.fields)
    assert "hush" not in str(record.fields)


def test_the_api_page_and_the_openapi_document_describe_every_operation(client):
    for page in (client.get("/docs"), client.get("/")):
        assert page.headers["content-type"].startswith("text/html")
        for path in re.findall(r'(?:src|href)="([^"#]+)"', page.text):
            assert not path.startswith(("/", "http")), "a proxy may put the service under any path"
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


def test_another_origin_may_read_when_to_come_back(client_of):
    client = client_of(cors=("https://pages.example.org",))
    answer = client.get("/v1/properties", headers={"Origin": "https://pages.example.org"})
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    other = client.get("/v1/properties", headers={"Origin": "https://other.example.org"})
    assert "access-control-allow-origin" not in other.headers
