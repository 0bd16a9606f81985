"""Writes the hash-pinned locks: `python tools/lock.py [options of uv pip compile]`.

Versions that stand in a lock are kept; `--upgrade-package mlflow` or `--upgrade` moves them. Every further
lock is constrained by the core one: an extra never changes what the core runs on. Needs uv and the network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CORE = "requirements.lock"
DEV_EXTRAS = ("dev", "docs", "dashboard", "s3")

LOCKS: dict[str, tuple[str, tuple[str, ...]]] = {
    CORE: ("pyproject.toml", ()),
    "requirements-dev.lock": ("pyproject.toml", DEV_EXTRAS),
    "requirements-gpu.lock": ("pyproject.toml", ("gpu",)),
    "requirements-jax.lock": ("pyproject.toml", ("jax",)),
    "requirements-ray.lock": ("pyproject.toml", ("ray",)),
    "requirements-team.lock": ("pyproject.toml", ("s3", "postgres")),
    "docker/requirements-server.lock": ("docker/requirements-server.in", ()),
    "docker/requirements-service.lock": ("docker/requirements-service.in", ()),
}
"""Lock file: what it pins, with which extras of pyproject.toml."""

OPTIONS = (
    "--universal",
    "--python-version=3.11",
    "--generate-hashes",
    "--no-config",
    "--no-header",
    "--no-annotate",
    "--quiet",
)


def find_uv() -> str:
    """Path of the uv executable beside this interpreter or on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        sys.exit("tools/lock.py: uv was not found. Install it with `.venv/bin/python -m pip install uv`.")
    return found


def compile_lock(uv: str, lock: str, further: list[str]) -> None:
    """Resolve one lock for all supported systems and Python versions, from the default index only."""
    source, extras = LOCKS[lock]
    command = [uv, "pip", "compile", source, f"--output-file={lock}", *OPTIONS, *further]
    command += [f"--extra={extra}" for extra in extras]
    if lock != CORE:
        command.append(f"--constraint={CORE}")
    environment = {name: value for name, value in os.environ.items() if "INDEX" not in name and "LINKS" not in name}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    text = (ROOT / lock).read_text()
    if "://" in text:
        sys.exit(f"tools/lock.py: {lock} holds an address of this machine's index. Resolve without that index.")
    print(f"{lock}: {sum(line[:1].isalnum() for line in text.splitlines())} packages")


def main() -> None:
    """Regenerate every lock, the core first."""
    uv = find_uv()
    for lock in LOCKS:
        compile_lock(uv, lock, sys.argv[1:])


if __name__ == "__main__":
    main()
