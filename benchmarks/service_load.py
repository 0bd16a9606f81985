"""Latency and throughput of the service, measured with wrk (Debian and Ubuntu: apt-get install wrk).

    python benchmarks/service_load.py                        (starts a service on this folder's registry)
    python benchmarks/service_load.py --url http://127.0.0.1:8000 --property bulkmoduluskv

Three loads, one after the other: one formula for one property (latency), large batches from a few callers
(throughput), and bursts of large batches that all arrive at once (admission: what can be answered in time is, the rest
is refused at once with ``Retry-After``). Formulas are made up and differ from request to request. wrk adds the requests
that a caller could have sent during a slow answer, so that its p99 is rather too high. CROSSPROP_API_KEY is sent where
it is set.

The processor time of the service for each formula, which others on the machine disturb less than the rest, is shown for
a service that was started here, or whose process is named with --pid.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil

SCRIPT = Path(__file__).with_name("service_load.lua")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running service; otherwise one is started")
    parser.add_argument("--pid", type=int, help="process of the running service, on this machine")
    parser.add_argument("--property", help="the first that is served by default")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--connections", type=int, nargs="*", default=[1, 4, 16], help="callers of single formulas")
    parser.add_argument("--batch", type=int, default=2000, help="formulas of a large request")
    parser.add_argument("--batch-connections", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--bursts", type=int, nargs="*", default=[24, 40, 100], help="large requests at once")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        print("left out: wrk is not installed (on Debian and Ubuntu: apt-get install wrk)")
        return
    with running_service(args.url, args.pid, args.property) as (url, pid):
        name = args.property or first_property(url)
        if name is None:
            print("left out: no model has the alias champion here ('crossprop promote <target>' gives it)")
            return
        wait_until_loaded(url, name)
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, property {name}")
        print(f"{'formulas':>8} {'callers':>7} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'max ms':>8}", end="")
        print(f" {'req/s':>8} {'formulas/s':>10} {'CPU ms':>7} {'errors':>6}")
        for callers in args.connections:
            load(url, name, args.seconds, formulas=1, callers=callers, bodies=5000, pid=pid)
        for callers in args.batch_connections:
            load(url, name, args.seconds, formulas=args.batch, callers=callers, bodies=20, pid=pid)
        print(f"{'batches':>8} {'answered':>8} {'slowest s':>9} {'refused':>8} {'slowest s':>9} {'other':>6}")
        for batches in args.bursts:
            burst(url, name, batches, args.batch)


@contextmanager
def running_service(url: str | None, pid: int | None, name: str | None) -> Iterator[tuple[str, int | None]]:
    """The given service, or a new one for the property, with its process where that is known."""
    if url:
        yield url.rstrip("/"), pid
        return
    command = [
        sys.executable,
        "-m",
        "crossprop.cli",
        "serve",
        "--port",
        "0",
        *(["--properties", name] if name else []),
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as started:
        try:
            assert started.stdout is not None
            started.stdout.readline()
            yield started.stdout.readline().split()[1].rstrip("/"), started.pid
        finally:
            started.terminate()


def first_property(url: str) -> str | None:
    """The first property that is served, once the service has looked at its registry."""
    for _ in range(60):
        try:
            with urlopen(f"{url}/v1/properties", timeout=5) as answer:
                if found := json.load(answer)["properties"]:
                    return str(found[0]["name"])
        except URLError:
            pass
        time.sleep(0.5)
    return None


def request(url: str, body: bytes) -> Request:
    """A request for predictions, with the key of the environment."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("CROSSPROP_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    return Request(f"{url}/v1/predict", body, headers)


def wait_until_loaded(url: str, name: str) -> None:
    """Predict until there is an answer; fails where the property is not served."""
    body = json.dumps({"formulas": ["NaCl"], "properties": [name]}).encode()
    for _ in range(240):
        try:
            with urlopen(request(url, body), timeout=60) as answer:
                answer.read()
                return
        except URLError as error:  # not listening, not looked at its registry, or still loading
            if isinstance(error, HTTPError) and error.code != 503:
                raise
        time.sleep(0.5)
    raise SystemExit(f"{name} was not loaded within two minutes")


def load(url: str, name: str, seconds: int, formulas: int, callers: int, bodies: int, pid: int | None = None) -> None:
    """Run wrk once and print one line, the command at its end."""
    command = [
        "wrk", "--threads", "1", "--connections", str(callers), "--duration", f"{seconds}s", "--timeout", "30s",
        "--script", str(SCRIPT), f"{url}/v1/predict", "--", name, str(formulas), str(bodies),
    ]  # fmt: skip
    busy = processor_seconds(pid)
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    busy = processor_seconds(pid) - busy
    line = next(line for line in finished.stdout.splitlines() if line.startswith("RESULT"))
    requests, microseconds, p50, p95, p99, longest, errors = (float(word) for word in line.split()[1:])
    rate = requests / (microseconds / 1e6)
    cpu = f"{1e3 * busy / (requests * formulas):7.3f}" if pid and requests else f"{'-':>7}"
    print(
        f"{formulas:8d} {callers:7d} {p50:8.1f} {p95:8.1f} {p99:8.1f} {longest:8.1f} {rate:8.1f} "
        f"{rate * formulas:10.0f} {cpu} {errors:6.0f}   {shlex.join(command)}"
    )


def burst(url: str, name: str, batches: int, size: int) -> None:
    """Send so many large batches at once and print how many were answered, and refused with ``Retry-After``."""
    rng = random.Random(batches)
    elements = (
        "Li",
        "Na",
        "K",
        "Mg",
        "Ca",
        "Al",
        "Ti",
        "Cr",
        "Mn",
        "Fe",
        "Co",
        "Ni",
        "Cu",
        "Zn",
        "Si",
        "N",
        "O",
        "S",
    )

    def ask(body: bytes) -> tuple[str, float]:
        started = time.perf_counter()
        try:
            with urlopen(request(url, body), timeout=120) as answer:
                answer.read()
            outcome = "answered"
        except HTTPError as error:
            outcome = "refused" if error.code in (429, 503) and error.headers["Retry-After"] else "other"
        except OSError:
            outcome = "other"
        return outcome, time.perf_counter() - started

    def formula() -> str:
        return "".join(f"{e}{rng.randint(1, 9)}" for e in rng.sample(elements, rng.randint(2, 4)))

    bodies = [
        json.dumps({"formulas": [formula() for _ in range(size)], "properties": [name]}).encode()
        for _ in range(batches)
    ]
    with ThreadPoolExecutor(batches) as pool:
        found = list(pool.map(ask, bodies))
    seconds = {kind: [s for k, s in found if k == kind] for kind in ("answered", "refused", "other")}
    longest = {kind: max(values, default=0.0) for kind, values in seconds.items()}
    print(
        f"{batches:8d} {len(seconds['answered']):8d} {longest['answered']:9.1f} {len(seconds['refused']):8d} "
        f"{longest['refused']:9.1f} {len(seconds['other']):6d}"
    )


def processor_seconds(pid: int | None) -> float:
    """Time that all threads of a process have computed; 0 where none is named."""
    if pid is None:
        return 0.0
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
