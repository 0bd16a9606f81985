"""The service over a real connection: swaps under load, overload, slow and hostile clients, a clean end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_service
import pytest
import requests
from fake_service import FakeSource, load_fake, serving
from waiting import PATIENCE, until

from crossprop.service import server
from crossprop.service.app import create_app
from crossprop.service.settings import Limits, ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
POST = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
IPV6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="there is no IPv6 here")
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def source(tmp_path):
    made = FakeSource(tmp_path)
    made.add("bulkmoduluskv")
    made.add("deltae")
    return made


@pytest.fixture
def serve(source):
    with contextlib.ExitStack() as stack:

        def start(load=load_fake, proxies=(), threads=2, host="127.0.0.1", **limits):
            bounds = Limits(**{"seconds": PATIENCE, **limits})
            settings = ServiceSettings(limits=bounds, poll_seconds=0.1, proxies=proxies, threads=threads)
            url = stack.enter_context(serving(create_app(settings, source, load), bounds, proxies, host))
            until(lambda: get(url, "readyz").status_code == 200)
            return url

        yield start


@pytest.fixture
def gate():
    """Holds back work until it is set, at the latest at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def get(url, path, **options):
    return requests.get(f"{url}/{path}", timeout=PATIENCE, **options)


def predict(url, formulas, name="deltae", session=requests):
    body = {"formulas": formulas, "properties": [name]}
    return session.post(f"{url}/v1/predict", json=body, timeout=PATIENCE)


def until_version(url, version):
    """Wait until this version of deltae answers."""
    until(lambda: get(url, "v1/properties").json()["properties"][1]["version"] == version)


def waiting(url, size):
    text = get(url, "metrics").text
    return int(float(text.split(f'crossprop_prediction_requests{{size="{size}"}} ')[1].split()[0]))


def held_back(gate):
    """Loads fake models; deltae predicts nothing but its check before the gate is open."""

    def load(folder):
        model = load_fake(folder)
        if folder.parent.name == "deltae":
            predict, checks = model.predict, iter([None])

            def later(fractions, **options):
                if next(checks, gate) is gate:
                    gate.wait(PATIENCE)
                return predict(fractions, **options)

            model.predict = later
        return model

    return load


def connect(url, sent=b""):
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    connection.sendall(sent)
    return connection


def request_bytes(n):
    body = json.dumps({"formulas": ["NaCl"] * n, "properties": ["deltae"]}).encode()
    return POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body


def received(connection):
    """All that comes until the other side closes."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_an_alias_moved_under_load_drops_no_request_and_mixes_no_versions(serve, source):
    source.add("deltae", "2", alias=None)
    url = serve(chunk=50)
    stop, seen, wrong = threading.Event(), set(), []
    base = predict(url, ["NaCl"]).json()["results"][0]["predictions"]["deltae"]["value"]

    def client(n_formulas):
        with requests.Session() as session:
            while not stop.is_set():
                answer = predict(url, ["NaCl"] * n_formulas, session=session)
                if answer.status_code != 200:
                    wrong.append(answer.text[:200])
                    return
                got = answer.json()
                version = got["models"]["deltae"]["version"]
                seen.add(version)
                values = {round(r["predictions"]["deltae"]["value"], 6) for r in got["results"]}
                if values != {round(base + 1000 * (int(version) - 1), 6)}:
                    wrong.append((version, values))

    with ThreadPoolExecutor(4) as crowd:
        clients = [crowd.submit(client, n) for n in (1, 1, 1, 400)]
        try:
            for version in ("2", "1", "2", "1", "2"):
                source.move("jarvis.deltae", version)
                until_version(url, version)
        finally:
            stop.set()
    assert [one.result() for one in clients] == [None] * 4
    assert not wrong
    assert seen == {"1", "2"}


def test_a_small_request_does_not_wait_for_large_ones(serve, gate):
    url = serve(held_back(gate), chunk=100)
    with ThreadPoolExecutor(4) as crowd:
        large = [crowd.submit(predict, url, ["NaCl"] * 3000) for _ in range(4)]
        try:
            until(lambda: waiting(url, "large") == 4)
            assert predict(url, ["NaCl"], "bulkmoduluskv").status_code == 200
            assert not any(one.done() for one in large), "they wait until the gate is open"
        finally:
            gate.set()
        assert {one.result(PATIENCE).status_code for one in large} == {200}


def test_a_caller_who_hangs_up_leaves_no_work_behind(serve, source):
    source.add("deltae", "2", seconds=0.05)
    url = serve(chunk=10, threads=1)
    until_version(url, "2")
    with connect(url, request_bytes(10_000)):
        until(lambda: waiting(url, "large") == 1)
    until(lambda: waiting(url, "large") == 0, 25)  # all of it takes 50 s


def test_thousands_of_pipelined_requests_are_answered(serve):
    one = GET % b"/healthz"
    many = one * 4999 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with connect(serve()) as client:
        threading.Thread(target=client.sendall, args=(many,)).start()
        assert received(client).count(b"HTTP/1.1 200 OK") == 5000


def test_more_connections_than_the_limit_are_refused(serve, gate):
    url = serve(held_back(gate), connections=3)
    with contextlib.ExitStack() as stack:
        stack.enter_context(connect(url, request_bytes(1)))
        stack.enter_context(connect(url))
        until(lambda: get(url, "healthz").status_code == 200)  # the third
        stack.enter_context(connect(url))
        until(lambda: get(url, "healthz").status_code == 503)
    gate.set()
    until(lambda: get(url, "healthz").status_code == 200)


def test_a_connection_that_sends_nothing_is_closed(serve, monkeypatch):
    monkeypatch.setattr(server, "_KEEP_ALIVE_SECONDS", 0.3)
    with connect(serve()) as silent:
        assert received(silent) == b""


def test_a_body_that_never_ends_is_cut_off(serve):
    with connect(serve(body_seconds=0.4), POST + b"Content-Length: 100000\r\n\r\n") as slow:
        end, answer, closed = time.monotonic() + PATIENCE, b"", False
        slow.settimeout(0.1)
        while not closed and time.monotonic() < end:
            try:
                slow.sendall(b" ")
                piece = slow.recv(4096)
                answer, closed = answer + piece, not piece
            except TimeoutError:
                continue
            except OSError:
                closed = True
    assert closed
    assert answer.startswith(b"HTTP/1.1 408")


def test_what_is_no_http_is_refused_and_the_service_lives(serve):
    url = serve()
    tls, long_header = b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/1.1\r\nX-A: " + b"a" * 10_000_000
    for garbage in (tls, b"GET /\r\n\r\n", long_header):
        with contextlib.suppress(OSError), connect(url, garbage) as caller:
            caller.settimeout(1)
            assert not caller.recv(1000).startswith(b"HTTP/1.1 200")
        assert get(url, "healthz").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::", marks=IPV6)])
@pytest.mark.parametrize(("proxies", "client"), [((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.9")])
def test_the_client_address_is_taken_from_a_named_proxy_only(serve, caplog, host, proxies, client):
    def clients():
        return [r.fields["client"] for r in caplog.records if r.fields["path"] == "/docs"]

    with caplog.at_level("INFO", "crossprop.service.access"):
        get(serve(proxies=proxies, host=host), "docs", headers={"X-Forwarded-For": "203.0.113.9"})
        until(clients)
    assert clients() == [client]


def test_a_request_waits_for_a_model_that_is_being_loaded_but_not_for_ever(serve, source, gate):
    url = serve(fake_service.held_back(gate, "spillage"), seconds=4.0)
    source.add("spillage")
    until(lambda: len(get(url, "v1/properties").json()["properties"]) == 3)
    answer = predict(url, ["NaCl"], "spillage")
    assert answer.status_code == 503
    assert "still being loaded" in answer.json()["error"]["message"]
    assert answer.headers["Retry-After"]
    with ThreadPoolExecutor(1) as caller:
        patient = caller.submit(predict, url, ["NaCl"], "spillage")
        assert predict(url, ["NaCl"]).status_code == 200
        gate.set()
        assert patient.result().status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["terminated", "terminal closed"])
def test_a_terminated_service_answers_what_it_has_begun_and_ends_with_status_0(tmp_path, number):
    program = (
        "import signal, sys; from pathlib import Path; from fake_service import FakeSource, load_fake\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from crossprop.service.app import create_app\n"
        "from crossprop.service.server import open_socket, run_app\n"
        "from crossprop.service.settings import Limits, ServiceSettings\n"
        "source = FakeSource(Path(sys.argv[1])); source.add('deltae', seconds=1.5)\n"
        "listening = open_socket('127.0.0.1', 0); print(listening.getsockname()[1], flush=True)\n"
        "run_app(create_app(ServiceSettings(), source, load_fake), listening, Limits()); print('stopped')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}"}
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        command = [sys.executable, "-c", program, str(tmp_path)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stream, text=True)
    try:
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"

        def ready():
            with contextlib.suppress(requests.RequestException):
                return get(url, "readyz").status_code == 200
            return False

        until(ready)
        with ThreadPoolExecutor(1) as caller:
            answer = caller.submit(predict, url, ["NaCl"])
            until(lambda: waiting(url, "small") == 1 or answer.done())
            process.send_signal(number)
            assert answer.result(PATIENCE).status_code == 200
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out.strip() == "stopped"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["event"] == "request" and line["path"] == "/v1/predict" for line in lines)


def test_a_caller_who_hangs_up_in_mid_body_is_no_failure_of_the_service(serve, caplog):
    url = serve()
    connect(url, request_bytes(1)[:-10]).close()
    until(lambda: 'path="/v1/predict",status="499"} 1.0' in get(url, "metrics").text)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
