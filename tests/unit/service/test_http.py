"""What clients, proxies and machines that watch do beside asking for predictions."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time

import pytest
from asking import ask, error_of

from crossprop.service.settings import Limits

REQUEST = b'{"formulas": ["NaCl"], "properties": ["deltae"]}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/static/app.js",
     "/v1/properties", "/v1/models", "/v1/properties/deltae/parity"],
)  # fmt: skip
def test_head_gives_the_headers_of_get_and_no_body(client, path):
    head, get = client.head(path), client.get(path)
    assert 'crossprop_requests_total{method="HEAD"' in client.get("/metrics").text
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # which counts both
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_name_nothing_from_the_root_so_that_a_proxy_may_put_them_anywhere(client, path):
    text = client.get(path).text
    assert 'href="/' not in text
    assert 'src="/' not in text


def test_a_compressed_body_is_refused_with_what_is_read_instead(client):
    headers = JSON | {"Content-Encoding": "gzip"}
    answer = client.post("/v1/predict", content=gzip.compress(REQUEST), headers=headers)
    assert error_of(answer) == (415, "UnsupportedCodingError")
    assert answer.headers["accept-encoding"] == "identity"
    plain = JSON | {"Content-Encoding": "identity"}
    assert client.post("/v1/predict", content=REQUEST, headers=plain).status_code == 200


VALID = {"formulas": ["NaCl"], "properties": ["deltae"]}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "no JSON"),
        (b"formulas=NaCl", 400, "no JSON"),
        (b"\xff\xfe\x00", 400, "no JSON"),
        (rb'{"formulas": ["Na\ud800"], "properties": ["deltae"]}', 400, "no JSON"),
        (b'{"formulas": [NaN], "properties": ["deltae"]}', 400, "no JSON"),
        (b"[" * 5000, 400, "no JSON"),
        (REQUEST.decode().encode("utf-16"), 400, "but JSON is UTF-8"),
        (b"null", 422, "the body: "),
        (b"[]", 422, "the body: "),
        (b'{"formulas": ["NaCl"], "formulas": ["KCl"], "properties": ["deltae"]}', 422, "holds 'formulas' twice"),
        (b'{"nearest": 1, "formulas": ["NaCl"], "properties": ["deltae"], "nearest": 2}', 422, "holds 'nearest' twice"),
        ({"properties": ["deltae"]}, 422, "formulas: Field required"),
        (VALID | {"formula": ["NaCl"]}, 422, "formula: Extra inputs"),
        (VALID | {"formulas": "NaCl"}, 422, "formulas: Input should be a valid list"),
        (VALID | {"formulas": []}, 422, "formulas: List should have at least 1 item"),
        (VALID | {"properties": []}, 422, "properties: List should have at least 1 item"),
        (VALID | {"properties": [1]}, 422, "properties.0: Input should be a valid string"),
        (VALID | {"amounts": "mol"}, 422, "amounts: Input should be 'atomic' or 'weight'"),
        (VALID | {"nearest": None}, 422, "nearest: "),
        (VALID | {"nearest": "3"}, 422, "nearest: Value error, must be a whole number"),
        (VALID | {"nearest": True}, 422, "nearest: Value error, must be a whole number"),
        (VALID | {"nearest": -1}, 422, "nearest: "),
        (VALID | {"nearest": 11}, 422, "nearest: Input should be less than or equal to 10"),
        (b'{"formulas": ["NaCl"], "properties": ["deltae"], "nearest": 1e999}', 422, "nearest: "),
        (VALID | {"properties": ["hardness"]}, 404, "'hardness' is no property"),
        (VALID | {"properties": ["?!"]}, 404, "There are: bulkmoduluskv, deltae."),
    ],
)  # fmt: skip
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
        (
            b'{"formulas": ["formulas", "formulas", %s], "properties": ["deltae"]}' % (b"1" * 400),
            "application/json",
        ),
    ],
    ids=["byte order mark", "character set", "names of fields and long numbers as items"],
)
def test_unusual_but_valid_bodies_are_read(client, body, kind):
    assert client.post("/v1/predict", content=body, headers={"Content-Type": kind}).status_code == 200


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Deltae", "deltae"),
        ("delta_e", "deltae"),
        ("formation energy", "deltae"),
        ("bulk-modulus", "bulkmoduluskv"),
        ("bulkmodulskv", "bulkmoduluskv"),
    ],
)
def test_a_property_that_is_not_served_is_answered_with_the_one_that_is_meant(client, name, meant):
    answer = ask(client, ["NaCl"], [name])
    assert error_of(answer) == (404, "UnknownNameError")
    assert f"Did you mean {meant}?" in answer.json()["error"]["message"]


def test_before_anything_is_served_callers_are_told_to_come_back(client_of, source):
    source.down = "not up yet"
    client = client_of()
    for answer in (ask(client, ["NaCl"]), client.get("/v1/properties/deltae/parity")):
        assert error_of(answer) == (503, "UnavailableError")
        assert answer.headers["retry-after"] == "2"


def test_a_model_asked_for_by_its_registered_name_counts_for_its_property(client):
    ask(client, ["NaCl", "KCl"], ["jarvis.deltae", "deltae"])
    assert 'crossprop_predictions_total{property="deltae",version="1"} 4.0' in client.get("/metrics").text


def test_a_caller_who_hangs_up_in_mid_body_is_no_failure_of_the_service(client, caplog):
    sent = []

    async def send(message):
        sent.append(message)

    gone = {"type": "http.disconnect"}
    given = iter([{"type": "http.request", "body": b'{"form', "more_body": True}, gone, gone])

    async def pieces():
        return next(given)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"100")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "app": client.app, "state": {},
    }  # fmt: skip
    with caplog.at_level(logging.ERROR, "crossprop.service"):
        asyncio.run(client.app(scope, pieces, send))
    assert not caplog.records
    text = client.get("/metrics").text
    assert 'crossprop_requests_total{method="POST",path="/v1/predict",status="499"} 1.0' in text
    assert 'status="500"' not in text


def test_another_origin_may_read_when_to_come_back(client_of):
    client = client_of(Limits(), cors=("https://pages.example.org",))
    answer = client.get("/v1/properties", headers={"Origin": "https://pages.example.org"})
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    other = client.get("/v1/properties", headers={"Origin": "https://other.example.org"})
    assert "access-control-allow-origin" not in other.headers


def test_a_named_property_without_a_version_is_logged_once(client_of, caplog):
    with caplog.at_level(logging.WARNING, "crossprop.service"):
        client_of(properties=("deltae", "hardness"))
        time.sleep(0.2)  # some polls
    missing = [r.fields["missing"] for r in caplog.records if r.getMessage() == "versions"]
    assert missing == [["hardness"]]


@pytest.mark.parametrize(
    ("settings", "host", "allowed"),
    [
        ({}, "localhost", True),
        ({}, "LOCALHOST:8000", True),
        ({}, "127.0.0.1:8000", True),
        ({}, "[::1]:8000", True),
        ({}, "", True),
        ({}, "rebound.example", False),
        ({}, "localhost.rebound.example", False),
        ({}, "10.0.0.7", False),
        ({"any_address": True}, "10.0.0.7:8000", True),
        ({"any_address": True}, "[fe80::7]", True),
        ({"any_address": True}, "rebound.example", False),
        ({"hosts": ("predict.example", "*.lab.example")}, "predict.example", True),
        ({"hosts": ("predict.example", "*.lab.example")}, "a.lab.example:80", True),
        ({"hosts": ("predict.example", "*.lab.example")}, "lab.example", False),
        ({"hosts": ("*",)}, "rebound.example", True),
    ],
)  # fmt: skip
def test_a_request_for_a_host_that_is_not_allowed_is_refused(client_of, settings, host, allowed):
    """A page of another site that lets its name point to this address is not answered."""
    client = client_of(**settings)
    for path in ("/v1/properties", "/", "/healthz"):
        answer = client.get(path, headers={"Host": host})
        if allowed:
            assert answer.status_code == 200
        else:
            assert error_of(answer) == (400, "UnknownHostError")
            assert "--allowed-host" in answer.json()["error"]["message"]
