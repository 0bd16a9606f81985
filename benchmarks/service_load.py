"""Latency and throughput of a running service, measured with wrk (Debian and Ubuntu: apt-get install wrk).

    crossprop serve --port 8000
    python benchmarks/service_load.py --url http://127.0.0.1:8000 --property bulkmoduluskv

Two loads, one after the other: one formula for one property from one caller after the other (latency), and large
batches from a few callers (throughput). Formulas are made up and differ from request to request. CROSSPROP_API_KEY
is sent where it is set.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

SCRIPT = Path(__file__).with_name("service_load.lua")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--property", default="bulkmoduluskv")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument(
        "--connections", type=int, nargs="*", default=[1, 4, 16], help="callers of single formulas"
    )
    parser.add_argument("--batch", type=int, default=2000, help="formulas of a large request")
    parser.add_argument("--batch-connections", type=int, nargs="*", default=[1, 2])
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed. On Debian and Ubuntu: apt-get install wrk")
    wait_until_loaded(args.url, args.property)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"{'formulas':>8} {'callers':>7} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'max ms':>8} {'req/s':>8}",
        end="",
    )
    print(f" {'formulas/s':>10} {'errors':>6}")
    for callers in args.connections:
        load(args, formulas=1, callers=callers, bodies=5000)
    for callers in args.batch_connections:
        load(args, formulas=args.batch, callers=callers, bodies=20)


def wait_until_loaded(url: str, name: str) -> None:
    """One prediction, which waits for the model; fails where the property is not served."""
    body = f'{{"formulas": ["NaCl"], "properties": ["{name}"]}}'.encode()
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("CROSSPROP_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    for _ in range(20):
        with urlopen(Request(f"{url}/v1/predict", body, headers), timeout=60) as answer:
            answer.read()


def load(args: argparse.Namespace, formulas: int, callers: int, bodies: int) -> None:
    """Run wrk once and print one line, then the command."""
    command = [
        "wrk", "--threads", "1", "--connections", str(callers), "--duration", f"{args.seconds}s", "--timeout", "30s",
        "--script", str(SCRIPT), f"{args.url}/v1/predict", "--", args.property, str(formulas), str(bodies),
    ]  # fmt: skip
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in finished.stdout.splitlines() if line.startswith("RESULT"))
    requests, microseconds, p50, p95, p99, longest, errors = (float(word) for word in line.split()[1:])
    rate = requests / (microseconds / 1e6)
    print(
        f"{formulas:8d} {callers:7d} {p50:8.1f} {p95:8.1f} {p99:8.1f} {longest:8.1f} {rate:8.1f} "
        f"{rate * formulas:10.0f} {errors:6.0f}   {shlex.join(command)}"
    )


if __name__ == "__main__":
    main()
