"""A screening of a million compositions on real models: rate, memory, and the rate on an otherwise idle machine.

    python benchmarks/screening.py --model deltae=results/jarvis/energy/deltae/model \\
        --model bulk=results/jarvis/elastic/bulkmoduluskv/model --where "bulk > 250 and deltae < -0.2"

Runs ``crossprop screen`` and measures the process from outside; ``--kill`` kills it once and runs it again.
The 39 default elements give 1,019,122 compositions of two or three elements and at most ten atoms. Other work on the
machine slows a run but hardly changes its processor time: the last lines give both.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import psutil

ELEMENTS = "transition-metals,Li,Be,Mg,Al,Ga,Si,Ge,B,C,N,O,P,S"
LEFT_OUT = "Hg,Cd,Tc"


def watched(command: list[str], kill_after: float | None) -> tuple[float, float, float, int]:
    """Run a command to its end or to the kill: seconds, processor seconds, peak GiB of the tree, status."""
    begun, peak, processor = time.monotonic(), 0.0, 0.0
    process = psutil.Popen(command)
    while process.poll() is None:
        try:
            tree = [process, *process.children(recursive=True)]
            peak = max(peak, sum(p.memory_info().rss for p in tree) / 2**30)
            processor = max(processor, sum(sum(p.cpu_times()[:2]) for p in tree))
        except psutil.Error:
            continue
        if kill_after is not None and time.monotonic() - begun > kill_after:
            process.kill()
        time.sleep(0.2)
    return time.monotonic() - begun, processor, peak, process.wait()


def main() -> None:
    """Screen, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="NAME=FOLDER, one for each property")
    parser.add_argument("--where", help="condition; without one every model sees every composition")
    parser.add_argument("--elements", default=ELEMENTS)
    parser.add_argument("--exclude", default=LEFT_OUT)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=Path("benchmark-screening"))
    parser.add_argument("--kill", type=float, help="seconds after which it is killed once, and then continued")
    arguments = parser.parse_args()

    names = ",".join(text.partition("=")[0] for text in arguments.model)
    command = [sys.executable, "-m", "crossprop.cli", "screen", "--property", names]
    command += ["--elements", arguments.elements, "--exclude", arguments.exclude, "--out", str(arguments.out)]
    command += [f"--workers={arguments.workers}", f"--batch={arguments.batch}"]
    command += [f"--model={text}" for text in arguments.model]
    command += [f"--where={arguments.where}"] if arguments.where else []

    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    runs = [watched(command, arguments.kill)]
    if arguments.kill is not None and runs[0][3] != 0:
        runs.append(watched(command, None))
    if runs[-1][3] != 0:
        sys.exit(f"the screening ended with status {runs[-1][3]}")
    seconds, processor = sum(r[0] for r in runs), sum(r[1] for r in runs)
    note = json.loads((arguments.out / "screen.json").read_text(encoding="utf-8"))
    predicted = note["counts"]["predicted"]

    print(f"compositions predicted           {predicted:>12,}")
    print(f"kept                             {note['counts']['kept']:>12,}")
    print(f"sessions                         {note['sessions']:>12}")
    print(f"seconds, start to end            {seconds:>12,.0f}")
    print(f"compositions/s, start to end     {predicted / seconds:>12,.0f}")
    print(f"compositions/s while predicting  {note['predicted_per_second']:>12,.0f}")
    print(f"peak memory of the processes     {max(r[2] for r in runs):>12.2f} GiB")
    print(f"processor seconds                {processor:>12,.0f}")
    print(f"cores that it got, of {cores:<3}        {processor / seconds:>12.2f} (load at the start {load:.1f})")
    print(f"compositions/s on {cores} free cores    {predicted * cores / processor:>12,.0f}")


if __name__ == "__main__":
    main()
