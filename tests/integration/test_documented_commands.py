"""Runs what the documentation tells a new user to type, in its order, in a copy of the project.

Blocks marked `bash` are typed as they are. Setting up is left out (the tests run in an environment that has it), and a
command that serves until it is stopped runs in the background until the page ends.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/tutorial.md", "docs/how-to/promote.md", "docs/how-to/serve.md", "docs/how-to/screen.md")
"""Pages whose commands build on each other; the others name commands that need a GPU, a cluster or containers."""

SET_UP = re.compile(r"^(git clone|cd |make setup|source |make ui|xdg-open)")
SERVES = re.compile(r"^(crossprop (serve|ui)|mlflow models serve)\b")
REFUSED = {"crossprop rollback": "has no previous version to go back to"}
"""Commands that a new user's one version cannot satisfy, and what they are told."""

SECONDS = 1200


def commands(page: str) -> list[str]:
    """Every command of a page's bash blocks; a line that ends with a backslash goes on."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a clone has it, its last commit included."""
    folder = tmp_path_factory.mktemp("documented") / "crossprop"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for command in ("init -q", "add -A", "-c user.name=t -c user.email=t@example.org commit -q -m project"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def environment(workspace: Path) -> dict[str, str]:
    """What a person has in the shell, with the tests' environment active and the copy's code first."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CROSSPROP", "MLFLOW", "PYTEST"))
    }
    mirror = {"CROSSPROP_MIRROR": os.environ["CROSSPROP_MIRROR"]} if "CROSSPROP_MIRROR" in os.environ else {}
    return (
        kept
        | mirror
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(workspace / "src"),
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.org",
        }
    )


@pytest.mark.parametrize("page", PAGES)
def test_page_has_commands(page):
    assert commands(page)


@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
def test_every_command_of_the_pages_does_what_it_should(workspace, environment):
    for page in PAGES:
        served: list[subprocess.Popen[bytes]] = []
        try:
            for command in commands(page):
                if SERVES.match(command):
                    served.append(_start(command, workspace, environment))
                elif not SET_UP.match(command):
                    _type(command, page, workspace, environment)
        finally:
            for process in served:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=60)


def _type(command: str, page: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    output = f"{page}: {command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    for words, told in REFUSED.items():
        if command.startswith(words):
            assert (done.returncode, told in done.stderr) == (1, True), output
            return
    assert done.returncode == 0, output


def _start(command: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a command that serves, and wait until it answers."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=folder, env=environment, start_new_session=True
    )
    port = re.search(r"(?:--port|-p)[ =](\d+)", command)
    address = f"http://127.0.0.1:{port[1] if port else 8000}/"
    for path in ("readyz", "ping"):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            answer = subprocess.run(["curl", "-fs", address + path], capture_output=True, check=False)
            if answer.returncode == 0:
                return process
            if answer.returncode == 22 and path == "readyz" and "mlflow" in command:
                break
            time.sleep(1)
    pytest.fail(f"{command} does not answer at {address}")
