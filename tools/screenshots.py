"""Takes the pictures of docs/images: `python tools/screenshots.py [FOLDER --mlflow URL] [--service URL]`.

FOLDER is a checkout in which `dvc repro` has finished, its MLflow UI (`make ui`) runs at the first URL. The second
is that of a service (`crossprop serve`): its page is shown. Needs Chromium or Chrome, and `make setup-dev`. No other
host is contacted.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 250_000
"""Bytes that a picture may have in the repository."""

WIDTH = 1200
QUESTION = "#formulas=Bi2Te3,PbTe,SnSe,GaAs,TiO2,Al2O3,XeF2,Xx3&properties=seebeck_n,log_mass_n,log_kappa_n"
"""What the pictures of the page ask for: known compositions, one outside of the domain, one that is no formula."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""What a browser needs to run in a container and to ask nobody else; the tests of the page start theirs with it."""

CLOSE_PANES = """
for (const name of ["assistant.chat_panel.close", "experiment_page.shared_view.dismiss"])
    document.querySelector(`[data-component-id="mlflow.${name}"]`)?.click();
"""
"""MLflow opens an assistant on the first visit, and a bar above shared views; both cover what is to be seen."""

TIDY = """
document.elementFromPoint(innerWidth - 36, innerHeight - 36)?.closest("button")?.remove();
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode())
    texts.currentNode.data = texts.currentNode.data.replaceAll(FOLDER, "");
"""
"""Removes the assistant's button and makes paths relative to the folder of the run."""


class Camera:
    """A tab of a headless browser that writes what it shows as pictures."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.page = browser.new_page()

    def size(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Open a new tab of this size; a phone has two dots for every point."""
        self.page.close()
        self.page = self._browser.new_page(
            viewport={"width": width, "height": height}, device_scale_factor=2 if phone else 1, is_mobile=phone,
            color_scheme="dark" if dark else "light", reduced_motion="reduce",
        )  # fmt: skip

    def show(self, url: str, wanted: str) -> None:
        """Open a page and wait until it shows a text and all its pictures."""
        self.page.goto(url)
        self.page.wait_for_function(
            "wanted => document.body.innerText.includes(wanted) && [...document.images].every(one => one.complete)",
            arg=wanted, timeout=60_000,
        )  # fmt: skip
        time.sleep(2)  # fonts, and what moves into place

    def tidy(self, folder: Path) -> None:
        """Remove from MLflow's page what covers it, and the folder of the run."""
        self.page.evaluate(CLOSE_PANES)
        time.sleep(1)
        self.page.evaluate(TIDY.replace("FOLDER", json.dumps(f"{folder}/")))

    def picture(self, path: Path) -> None:
        """Write what is visible as a PNG with a palette."""
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(io.BytesIO(self.page.screenshot())) as image:
            image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        size = path.stat().st_size
        if size > LARGEST:
            sys.exit(f"tools/screenshots.py: {path} has {size:,} bytes, more than {LARGEST:,}.")
        print(f"{path} ({size // 1000} kB)")


def pages(folder: Path, study: str, target: str) -> dict[str, tuple[str, str, int]]:
    """For every picture the page after the server's address, a text that it must show, and its height."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(f"{study}/{target}")
    if experiment is None:
        sys.exit(f"tools/screenshots.py: {folder}/mlflow.db has no experiment {study}/{target}.")
    model = f"{study}.{target}"
    version = client.get_model_version_by_alias(model, "challenger")
    runs = f"/#/experiments/{experiment.experiment_id}/runs"
    training = "workflowType=machine_learning"
    return {
        "runs.png": (f"{runs}?{training}&viewStateShareKey=crossprop", "matching runs", 700),
        "run.png": (f"{runs}/{version.run_id}/artifacts/parity.png?{training}", "parity.png", 700),
        "model.png": (f"/#/models/{model}/versions/{version.version}?{training}", "Registered At", 900),
    }


def take_mlflow(camera: Camera, address: str, folder: Path, study: str, target: str, out: Path) -> None:
    """Pictures of the MLflow UI on the folder's store."""
    for name, (page, wanted, height) in pages(folder, study, target).items():
        camera.size(WIDTH, height)
        camera.show(address.rstrip("/") + page, wanted)
        camera.tidy(folder)
        camera.picture(out / name)


def take_page(camera: Camera, address: str, question: str, out: Path) -> None:
    """Pictures of the service's page: what is asked, the answer in both schemes, and the answer on a phone."""
    address, answered = address.rstrip("/") + "/", "Nearest training compositions"
    top, results = "scrollTo(0, 0)", "document.getElementById('results').scrollIntoView()"
    for name, script, options in (
        ("page-ask.png", top, {}),
        ("page-answer.png", results, {}),
        ("page-answer-dark.png", results, {"dark": True}),
    ):
        camera.size(1280, 900, **options)
        camera.show(address + question, answered)
        camera.page.evaluate(script)
        time.sleep(1)
        camera.picture(out / name)
    camera.size(390, 844, phone=True)
    camera.show(address + question, "predictions for")
    camera.page.evaluate(results)
    time.sleep(1)
    camera.picture(out / "page-phone.png")


def find_browser() -> str | None:
    """Path of Chromium or Chrome."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="checkout with a finished run")
    parser.add_argument("--mlflow", metavar="URL", default="http://127.0.0.1:5000", help="address of `make ui` there")
    parser.add_argument("--study", default="transport")
    parser.add_argument("--target", default="seebeck_n")
    parser.add_argument("--service", metavar="URL", help="address of a running service, whose page is shown")
    parser.add_argument("--question", default=QUESTION, help="what its page is asked, as in a copied link")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve() if arguments.folder else None
    executable = find_browser()
    if executable is None:
        sys.exit(f"tools/screenshots.py: none of {', '.join(BROWSERS)} was found. Install one.")
    if folder is None and arguments.service is None:
        parser.error("name a folder with a finished run, or --service with the address of a service.")
    if folder is not None and not (folder / "mlflow.db").is_file():
        sys.exit(f"tools/screenshots.py: {folder} has no mlflow.db. Run `make repro` there first.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        camera = Camera(started.chromium.launch(executable_path=executable, args=list(FLAGS)))
        if folder is not None:
            take_mlflow(camera, arguments.mlflow, folder, arguments.study, arguments.target, arguments.out)
        if arguments.service:
            take_page(camera, arguments.service, arguments.question, arguments.out)


if __name__ == "__main__":
    main()
