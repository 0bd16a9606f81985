"""The service over a real connection: swaps under load, bad weather, slow clients, a clean end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from fake_service import FakeSource, load_fake
from waiting import PATIENCE, until

from crossprop.service import middleware
from crossprop.service.app import create_app
from crossprop.service.server import build_server, open_socket
from crossprop.service.settings import Limits, ServiceSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(tmp_path) -> FakeSource:
    made = FakeSource(tmp_path)
    made.add("bulkmoduluskv")
    made.add("deltae")
    return made


@pytest.fixture
def serve(source) -> Iterator[Callable[..., str]]:
    running = []

    def start(limits: Limits | None = None, load=load_fake, **settings) -> str:
        limits = limits or Limits(seconds=PATIENCE)
        app = create_app(ServiceSettings(limits=limits, poll_seconds=0.1, **settings), source, load)
        listening = open_socket("127.0.0.1", 0)
        server = build_server(app, limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        running.append((server, thread))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        until(lambda: server.started)
        until(lambda: requests.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200)
        return url

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the service did not end"


def predict(url: str, formulas: list, properties: list[str], session=requests, **more) -> requests.Response:
    body = {"formulas": formulas, "properties": properties, **more}
    return session.post(f"{url}/v1/predict", json=body, timeout=PATIENCE)


def metrics_of(url: str) -> str:
    return requests.get(f"{url}/metrics", timeout=PATIENCE).text


def held_back(target: str, gate: threading.Event):
    """Loads fake models; those of one target predict nothing but their check before the gate is open."""

    def load(folder: Path):
        model = load_fake(folder)
        if folder.parent.name == target:
            predict, checks = model.predict, iter([None])

            def later(fractions, **options):
                if next(checks, gate) is gate:
                    gate.wait(PATIENCE)
                return predict(fractions, **options)

            model.predict = later
        return model

    return load


def _connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def test_an_alias_moved_under_load_drops_no_request_and_mixes_no_versions(serve, source):
    source.add("deltae", "2", alias=None)
    url = serve(Limits(chunk=50, seconds=PATIENCE))
    stop, seen, wrong = threading.Event(), set(), []
    base = predict(url, ["NaCl"], ["deltae"]).json()["results"][0]["predictions"]["deltae"]["value"]

    def client(n_formulas: int) -> None:
        with requests.Session() as session:
            while not stop.is_set():
                answer = predict(url, ["NaCl"] * n_formulas, ["deltae"], session)
                if answer.status_code != 200:
                    wrong.append(answer.text[:200])
                    return
                got = answer.json()
                version = got["models"]["deltae"]["version"]
                seen.add(version)
                values = {round(r["predictions"]["deltae"]["value"], 6) for r in got["results"]}
                if values != {round(base + 1000 * (int(version) - 1), 6)}:
                    wrong.append((version, values))

    threads = [threading.Thread(target=client, args=(n,)) for n in (1, 1, 1, 400)]
    for thread in threads:
        thread.start()
    for version in ("2", "1", "2", "1", "2"):
        source.move("jarvis.deltae", version)
        until(lambda: _version(url, "deltae") == version)  # noqa: B023
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong
    assert seen == {"1", "2"}


def _version(url: str, name: str) -> str:
    shown = requests.get(f"{url}/v1/properties", timeout=PATIENCE).json()["properties"]
    return next(p["version"] for p in shown if p["name"] == name)


def test_a_damaged_champion_is_told_everywhere_while_the_former_one_answers(serve, source):
    url = serve()
    source.add("deltae", "2", damaged=True)

    def shown() -> dict:
        return next(
            p
            for p in requests.get(f"{url}/v1/properties", timeout=PATIENCE).json()["properties"]
            if p["name"] == "deltae"
        )

    until(lambda: shown()["status"] == "degraded")
    assert "version 1 goes on answering" in shown()["status_note"]
    model = next(
        m
        for m in requests.get(f"{url}/v1/models", timeout=PATIENCE).json()["models"]
        if m["property"] == "deltae"
    )
    assert (model["champion"]["version"], model["served"], model["status"]) == ("2", "1", "degraded")
    for line in (
        'crossprop_model_load_failures_total{model="jarvis.deltae"}',
        'crossprop_property_status{property="deltae",status="degraded"} 1.0',
    ):
        until(lambda: line in metrics_of(url))  # noqa: B023
    assert predict(url, ["NaCl"], ["deltae"]).json()["models"]["deltae"]["version"] == "1"


def test_ten_thousand_formulas_are_answered_in_one_call(serve):
    url = serve()
    formulas = [f"Fe{i % 100 + 1}O{i // 100 + 1}" for i in range(10_000)]
    answer = predict(url, formulas, ["deltae", "bulkmoduluskv"])
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [r["formula"] for r in results] == formulas
    assert all(set(r["predictions"]) == {"deltae", "bulkmoduluskv"} for r in results)


def test_a_small_request_does_not_wait_for_large_ones(serve):
    gate = threading.Event()
    url = serve(Limits(chunk=100, seconds=PATIENCE), held_back("deltae", gate), threads=2)
    crowd = [threading.Thread(target=predict, args=(url, ["NaCl"] * 3000, ["deltae"])) for _ in range(4)]
    for thread in crowd:
        thread.start()
    try:
        until(lambda: 'crossprop_lane_requests{lane="bulk"} 4.0' in metrics_of(url))
        assert predict(url, ["NaCl"], ["bulkmoduluskv"]).status_code == 200
        assert all(thread.is_alive() for thread in crowd), "they wait until the gate is open"
    finally:
        gate.set()
        for thread in crowd:
            thread.join(PATIENCE)


def test_a_caller_who_hangs_up_leaves_no_work_behind(serve, source):
    source.add("deltae", "2", seconds=0.05)
    url = serve(Limits(chunk=10, seconds=PATIENCE), threads=1)
    until(lambda: _version(url, "deltae") == "2")
    body = json.dumps({"formulas": ["NaCl"] * 10_000, "properties": ["deltae"]}).encode()
    with _connect(url) as caller:
        caller.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode() + b"\r\n\r\n" + body
        )  # fmt: skip
        until(lambda: 'crossprop_lane_requests{lane="bulk"} 1.0' in metrics_of(url))
    until(lambda: 'crossprop_lane_requests{lane="bulk"} 0.0' in metrics_of(url), 25)  # all of it takes 50 s


def test_more_callers_than_may_wait_are_told_to_come_back(serve):
    gate = threading.Event()
    url = serve(Limits(waiting=2, seconds=PATIENCE), held_back("deltae", gate), threads=1)
    answers: list[requests.Response] = []
    threads = [
        threading.Thread(target=lambda: answers.append(predict(url, ["NaCl"], ["deltae"]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(answers) == 6)
    finally:
        gate.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(a.status_code for a in answers) == [200] * 2 + [429] * 6
    refused = next(a for a in answers if a.status_code == 429)
    assert refused.headers["Retry-After"] == "1"
    assert refused.json()["error"]["type"] == "BusyError"


def test_a_body_of_ten_megabytes_is_refused_without_being_read(serve):
    url = serve()
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
    connection.putrequest("POST", "/v1/predict")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(10 * 2**20))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["error"]["type"] == "TooLargeError"
    assert requests.get(f"{url}/healthz", timeout=PATIENCE).status_code == 200


def test_a_body_that_trickles_in_is_cut_off(serve):
    url = serve(Limits(body_seconds=0.5))
    with _connect(url) as slow:
        slow.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
        )
        end, answer = time.monotonic() + PATIENCE, b""
        with contextlib.suppress(OSError):
            while not answer and time.monotonic() < end:  # the whole body would take hours
                slow.sendall(b" ")
                slow.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    answer += slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_a_connection_that_never_ends_its_headers_is_closed(serve, monkeypatch, said):
    url = serve()
    monkeypatch.setattr(middleware, "HEADER_SECONDS", 0.4)
    with _connect(url) as slow:
        slow.sendall(said)
        end, closed = time.monotonic() + PATIENCE, False
        while not closed and time.monotonic() < end:
            try:
                slow.sendall(b"a" if said else b"")
                slow.settimeout(0.1)
                closed = slow.recv(100) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed


def test_headers_without_end_are_cut_off_at_a_bound(serve):
    url = serve()
    sent = 0
    with _connect(url) as caller, contextlib.suppress(OSError):
        caller.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
        while sent < 50 * 2**20:
            caller.sendall(b"a" * 65536)
            sent += 65536
    assert sent < 20 * 2**20
    assert requests.get(f"{url}/healthz", timeout=PATIENCE).status_code == 200


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 1000, b"GET " + b"/a" * 100_000],
)
def test_what_is_no_http_is_refused_and_the_service_lives(serve, garbage):
    url = serve()
    with _connect(url) as caller, contextlib.suppress(OSError):
        caller.sendall(garbage)
        caller.settimeout(1)
        caller.recv(1000)
    assert requests.get(f"{url}/healthz", timeout=PATIENCE).status_code == 200


def test_the_registry_gone_in_mid_flight_stops_nothing(serve, source):
    url = serve()
    source.down = "unable to open database file"
    until(lambda: "go on answering" in requests.get(f"{url}/readyz", timeout=PATIENCE).json()["note"])
    assert requests.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
    assert predict(url, ["NaCl"], ["deltae"]).status_code == 200
    until(lambda: "crossprop_registry_up 0.0" in metrics_of(url))
    source.down = ""
    source.add("deltae", "2")
    until(lambda: _version(url, "deltae") == "2")
    assert requests.get(f"{url}/readyz", timeout=PATIENCE).json()["note"] == ""


def test_a_request_waits_for_a_model_that_is_being_loaded(serve, source):
    url = serve(preload=False)
    source.add("spillage", slow=0.5)
    until(lambda: len(requests.get(f"{url}/v1/properties", timeout=PATIENCE).json()["properties"]) == 3)
    assert predict(url, ["NaCl"], ["spillage"]).status_code == 200


@pytest.mark.parametrize(("proxies", "shown"), [((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9")])
def test_who_asks_is_believed_of_a_named_proxy_only(source, caplog, proxies, shown):
    limits = Limits()
    app = create_app(ServiceSettings(limits=limits, proxies=proxies), source, load_fake)
    listening = open_socket("127.0.0.1", 0)
    server = build_server(app, limits, proxies)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    with caplog.at_level("INFO", "crossprop.service.auth"):
        thread.start()
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            until(lambda: server.started)
            requests.get(f"{url}/docs", headers={"X-Forwarded-For": "203.0.113.9"}, timeout=PATIENCE)
            until(lambda: any(hasattr(r, "fields") and "client" in r.fields for r in caplog.records))
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
    assert [r.fields["client"] for r in caplog.records if "client" in getattr(r, "fields", {})] == [shown]


def test_a_model_that_takes_too_long_to_load_is_announced(serve, source):
    gate = threading.Event()

    def load(folder: Path):
        if folder.parent.name == "spillage":
            gate.wait(PATIENCE)
        return load_fake(folder)

    url = serve(Limits(seconds=4.0), load)
    source.add("spillage")
    until(lambda: len(requests.get(f"{url}/v1/properties", timeout=PATIENCE).json()["properties"]) == 3)
    answer = predict(url, ["NaCl"], ["spillage"])
    assert answer.status_code == 503
    assert "still being loaded" in answer.json()["error"]["message"]
    assert answer.headers["Retry-After"]
    until(lambda: predict(url, ["NaCl"], ["deltae"]).status_code == 200)
    gate.set()
    until(lambda: predict(url, ["NaCl"], ["spillage"]).status_code == 200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["told to end", "terminal closed"])
def test_a_terminated_service_answers_what_it_has_begun_and_ends_with_status_0(tmp_path, number):
    program = (
        "import signal, sys; from pathlib import Path; from fake_service import FakeSource, load_fake\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from crossprop.service.app import create_app\n"
        "from crossprop.service.server import open_socket, run_app\n"
        "from crossprop.service.settings import Limits, ServiceSettings\n"
        "source = FakeSource(Path(sys.argv[1])); source.add('deltae', seconds=3.0)\n"
        "listening = open_socket('127.0.0.1', 0); print(listening.getsockname()[1], flush=True)\n"
        "run_app(create_app(ServiceSettings(), source, load_fake), listening, Limits()); print('stopped')\n"
    )
    path = f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"
    log = tmp_path / "log.txt"  # a pipe that nobody reads would be full after a few hundred requests
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE, stderr=stream, text=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        until(lambda: _ready(url))
        answers: list[requests.Response] = []
        asking = threading.Thread(target=lambda: answers.append(predict(url, ["NaCl"], ["deltae"])))
        asking.start()
        until(lambda: 'crossprop_lane_requests{lane="quick"} 1.0' in metrics_of(url) or answers)
        process.send_signal(number)
        asking.join(PATIENCE)
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert answers[0].status_code == 200
    assert process.returncode == 0
    assert out.strip() == "stopped"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["event"] == "request" and line["path"] == "/v1/predict" for line in lines)


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=PATIENCE).status_code == 200
    except requests.RequestException:
        return False
