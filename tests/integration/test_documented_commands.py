"""Runs what the documentation tells a new user to type, in its order, in a copy of the project.

Blocks marked `bash` are typed as they are, blocks marked `python` are run, and blocks marked `text` have to be seen
among what was printed before, other numbers apart. Setting up is left out (the tests run in an environment that has
it), and a command that serves until it is stopped runs in the background until the page ends.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stores import answers
from studies import ROOT, Project
from waiting import until

PAGES = ["docs/tutorial.md", *(f"docs/how-to/{name}.md" for name in ("promote", "serve", "screen"))]
PAGES += ["docs/reference/python.md", "docs/reference/rest.md"]
"""Pages whose commands build on each other; the others name commands that need a GPU, a cluster or containers."""

NEEDS_SERVICE = ("docs/reference/rest.md",)
"""Pages that speak of a service which runs already."""

SET_UP = re.compile(r"^(git clone|cd |make setup|source |make ui|xdg-open)")
SERVES = re.compile(r"^(crossprop (serve|ui)|mlflow models serve)\b")
REFUSED = {"crossprop rollback": "has no previous version to go back to"}
"""Commands that a new user's one version cannot satisfy, and what they are told."""

SECONDS = 1200


def blocks(page):
    """Language and text of a page's blocks, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^ *```(bash|python|text)\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def commands(block):
    """Every command of a bash block; a line that ends with a backslash goes on."""
    lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def unseen(block, printed):
    """Parts of what a page shows (an ellipsis separates them) that were not printed, whatever the numbers."""

    def plain(text):
        return " ".join(re.sub(r"\d+(\.\d+)?", "#", text).split())

    shown = [part for line in block.splitlines() for part in line.split("…")]
    return [part for part in shown if plain(part) not in plain(printed)]


@pytest.mark.slow
@pytest.mark.timeout(3 * SECONDS)
def test_every_command_of_the_pages_does_what_it_should(tmp_path):
    project = Project(tmp_path / "crossprop")
    project.copy()
    project.commit()
    workspace, environment = project.root, project.environment
    for page in PAGES:
        served: list[subprocess.Popen[bytes]] = []
        printed = ""
        try:
            if page in NEEDS_SERVICE:
                served.append(_start("crossprop serve", workspace, environment))
            for language, block in blocks(page):
                if language == "text":
                    assert unseen(block, printed) == [], f"{page}, but printed was:\n{printed[-3000:]}"
                elif language == "python":
                    printed += _run([sys.executable, "-c", block], page, workspace, environment)
                else:
                    for command in commands(block):
                        if SERVES.match(command):
                            served.append(_start(command, workspace, environment))
                        elif not SET_UP.match(command):
                            typed = ["bash", "-o", "pipefail", "-c", command]
                            printed += _run(typed, page, workspace, environment)
        finally:
            for process in served:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=60)


def _run(words, page, folder, environment):
    """What a command prints; fails where it fails, or refuses otherwise than it should."""
    options = {"capture_output": True, "text": True, "timeout": SECONDS, "check": False}
    done = subprocess.run(words, cwd=folder, env=environment, **options)
    command = words[-1]
    output = f"{page}: {command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    for start, told in REFUSED.items():
        if command.startswith(start):
            assert (done.returncode, told in done.stderr) == (1, True), output
            return done.stdout
    assert done.returncode == 0, output
    assert not done.stdout.startswith('{"error"'), output
    return done.stdout


def _start(command, folder, environment):
    """Start a command that serves, and wait until it answers."""
    words = ["bash", "-c", f"exec {command}"]
    process = subprocess.Popen(words, cwd=folder, env=environment, start_new_session=True)
    port = re.search(r"(?:--port|-p)[ =](\d+)", command)
    address = f"http://127.0.0.1:{port[1] if port else 8000}/"
    until(lambda: process.poll() is not None or any(answers(address + path) for path in ("readyz", "ping")))
    assert process.poll() is None, f"{command} does not answer at {address}"
    return process


@pytest.mark.slow
def test_the_notebook_goes_from_a_csv_to_a_ranked_screening(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "docs" / "notebooks")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = json.loads(Path("csv_to_screening.ipynb").read_text(encoding="utf-8"))
    assert [cell for cell in notebook["cells"] if cell.get("outputs")] == []
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    figures, top = names["figures"], names["result"].top
    assert len(names["table"].problems) == 4
    assert figures["MAE (µV/K)"] < 0.95 * figures["MAE of the mean (µV/K)"]
    assert len(top) == 10
    assert top["thermopower"].is_monotonic_increasing
    assert top["thermopower_in_domain"].all()
    assert [line for line in names["summary"](names["result"]) if "their order is uncertain" in line]
