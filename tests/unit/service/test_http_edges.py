"""What clients, proxies and machines that watch do beside asking for predictions."""

from __future__ import annotations

import asyncio
import gzip
import logging

import pytest
from asking import ask, error_of

from crossprop.service.settings import Limits

REQUEST = b'{"formulas": ["NaCl"], "properties": ["deltae"]}'
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/readyz", "/metrics", "/docs", "/docs.css", "/openapi.json", "/static/app.js",
     "/v1/properties", "/v1/models", "/v1/properties/deltae/parity"],
)  # fmt: skip
def test_head_gives_the_headers_of_get_and_no_body(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # which counts both
        assert head.headers["content-length"] == get.headers["content-length"]


def test_head_is_counted_as_head_and_refused_where_get_is(client):
    assert client.head("/v1/predict").status_code == 405
    assert client.head("/nowhere").status_code == 404
    client.head("/v1/models")
    text = client.get("/metrics").text
    assert 'crossprop_requests_total{method="HEAD",path="/v1/models",status="200"} 1.0' in text


@pytest.mark.parametrize("path", ["/v1/properties/", "/docs/", "/static", "/healthz/"])
def test_nobody_is_sent_to_another_address(client, path):
    """Behind a proxy, the host and the path that the service knows are not those that the caller used."""
    answer = client.get(path, headers={"Host": "elsewhere.example"}, follow_redirects=False)
    assert error_of(answer) == (404, "UnknownPathError")
    assert "location" not in answer.headers
    assert ("slash" in answer.json()["error"]["message"]) == path.endswith("/")


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


def test_a_byte_order_mark_before_the_json_is_no_matter(client):
    assert client.post("/v1/predict", content=b"\xef\xbb\xbf" + REQUEST, headers=JSON).status_code == 200


def test_another_character_set_is_named_where_the_body_cannot_be_read(client):
    headers = {"Content-Type": "application/json; charset=utf-16"}
    answer = client.post("/v1/predict", content=REQUEST.decode().encode("utf-16"), headers=headers)
    assert error_of(answer) == (400, "BadRequestError")
    assert "JSON is UTF-8" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"formulas": ["NaCl"], "formulas": ["KCl"], "properties": ["deltae"]}', "holds 'formulas' twice"),
        (b'{"nearest": 1, "formulas": ["NaCl"], "properties": ["deltae"], "nearest": 2}', "holds 'nearest' twice"),
        (b'{"properties": ["deltae"]}', "formulas is missing"),
        (b'{"formula": ["NaCl"], "formulas": ["NaCl"], "properties": ["deltae"]}', "formula is not known here"),
        (b'{"formulas": "NaCl", "properties": ["deltae"]}', "formulas must be a list"),
        (b'{"formulas": ["NaCl"], "properties": []}', "properties must not be empty"),
        (b'{"formulas": ["NaCl"], "properties": [1]}', "properties.0 must be a text"),
        (b'{"formulas": ["NaCl"], "properties": ["deltae"], "nearest": null}', "nearest must be a whole number"),
        (b'{"formulas": ["NaCl"], "properties": ["deltae"], "nearest": 1e999}', "nearest must be a whole number"),
        (b'{"formulas": ["NaCl"], "properties": ["deltae"], "nearest": 11}', "nearest should be less than"),
        (b"[]", "the body must be an object"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_said_in_words_of_its_sender(client, body, said):
    answer = client.post("/v1/predict", content=body, headers=JSON)
    assert error_of(answer) == (422, "InvalidRequestError")
    message = answer.json()["error"]["message"]
    assert said in message
    assert "nput should" not in message


def test_a_field_is_repeated_only_where_it_is_a_field(client):
    """A column's heading among the formulas, a number of hundreds of digits: no reason to fail."""
    body = b'{"formulas": ["formulas", "formulas", %s], "properties": ["deltae"]}' % (b"1" * 400)
    answer = client.post("/v1/predict", content=body, headers=JSON)
    assert answer.status_code == 200
    assert [r["error"]["type"] for r in answer.json()["results"]] == ["FormulaError"] * 3


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


def test_a_property_like_none_is_answered_with_what_there_is(client):
    message = ask(client, ["NaCl"], ["?!"]).json()["error"]["message"]
    assert "There are: bulkmoduluskv, deltae." in message


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
    assert (
        "access-control-allow-origin"
        not in client.get("/v1/properties", headers={"Origin": "https://other.example.org"}).headers
    )


def test_what_was_named_and_is_not_there_is_logged_once(client_of, caplog):
    with caplog.at_level(logging.WARNING, "crossprop.service"):
        client = client_of(properties=("deltae", "hardness"))
        client.app.state.service.follower.look()
    told = [r.fields["missing"] for r in caplog.records if r.getMessage() == "no version has the alias"]
    assert told == [["hardness"]]
