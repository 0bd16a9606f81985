"""What holds for every request, and what clients, proxies and machines that watch do beside asking for predictions."""

import gzip
import json
import logging
import re
from itertools import product

import pytest
from asking import ask, error_of

from crossprop.service.auth import KeyRing, Scope, new_key

REQUEST = b'{"formulas": ["NaCl"], "properties": ["deltae"]}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/openapi.json", "/static/app.js"])
def test_head_gives_the_headers_of_get_and_no_body(client, path):
    head, get = client.head(path), client.get(path)
    assert 'crossprop_requests_total{method="HEAD"' in client.get("/metrics").text
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # which counts both
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_is_not_said_to_be_json_is_refused(client, kind):
    answer = client.post("/v1/predict", content=REQUEST, headers={"Content-Type": kind} if kind else {})
    assert error_of(answer) == (415, "MediaTypeError")


def test_a_compressed_body_is_refused_with_what_is_read_instead(client):
    headers = JSON | {"Content-Encoding": "gzip"}
    answer = client.post("/v1/predict", content=gzip.compress(REQUEST), headers=headers)
    assert error_of(answer) == (415, "UnsupportedCodingError")
    assert answer.headers["accept-encoding"] == "identity"


VALID = {"formulas": ["NaCl"], "properties": ["deltae"]}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
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
    ],
)
def test_a_body_that_is_no_request_is_refused_with_the_place_and_the_reason(client, body, status, said):
    content = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"Content-Type": "application/json; charset=something"}
    answer = client.post("/v1/predict", content=content, headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xef\xbb\xbf" + REQUEST, "application/json"),
        (REQUEST.replace(b"}", b', "nearest": 1.0}'), "Application/JSON; charset=utf-8"),
        (REQUEST.replace(b'"NaCl"', b'"formulas", "formulas", %s' % (b"1" * 400)), "application/json"),
    ],
    ids=["byte order mark", "character set", "names of fields and long numbers as items"],
)
def test_unusual_but_valid_bodies_are_read(client, body, kind):
    assert client.post("/v1/predict", content=body, headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize("name", ["Deltae", "delta_e", "formation energy", "deltea"])
def test_a_property_that_is_not_served_is_answered_with_the_one_that_is_meant(client, name):
    answer = ask(client, ["NaCl"], [name])
    assert error_of(answer) == (404, "UnknownNameError")
    assert "Did you mean deltae?" in answer.json()["error"]["message"]


def test_before_anything_is_served_callers_are_told_to_come_back(client_of, source):
    source.down = "not up yet"
    client = client_of()
    for answer in (ask(client, ["NaCl"]), client.get("/v1/properties/deltae/parity")):
        assert error_of(answer) == (503, "UnavailableError")
        assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("settings", "allowed", "refused"),
    [
        ({}, ["", "LOCALHOST:8000", "[::1]:80"], ["rebound.example", "localhost.a.example", "10.0.0.7"]),
        ({"any_address": True}, ["10.0.0.7:8000", "[fe80::7]"], ["rebound.example"]),
        ({"hosts": ("a.example", "*.lab.example")}, ["a.example", "b.lab.example:80"], ["lab.example"]),
        ({"hosts": ("*",)}, ["rebound.example"], []),
    ],
)
def test_a_request_for_a_host_that_is_not_allowed_is_refused(client_of, settings, allowed, refused):
    """A page of another site that lets its name point to this address is not answered."""
    client = client_of(**settings)
    for path, host in product(("/v1/properties", "/"), allowed):
        assert client.get(path, headers={"Host": host}).status_code == 200
    for path, host in product(("/v1/properties", "/"), refused):
        assert error_of(client.get(path, headers={"Host": host})) == (400, "UnknownHostError")


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
    client = client_of(keys=KeyRing((key,)))
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
