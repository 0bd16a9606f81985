"""Compiles models in a process of its own: its memory goes back, its crash hurts nobody, the service stays quick.

``python -m crossprop.service.compiling FOLDER CACHE THREADS`` is what that process runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

from crossprop.errors import CrosspropError, ModelFormatError
from crossprop.inference.predictor import ServedModel

_LONGEST = 1800.0
"""Seconds after which compiling is given up."""


class ModelLoader:
    """Loads saved models compiled; what was not compiled before is compiled apart, once.

    Attributes:
        cache: Where compiled files are kept; the engine's own choice if ``None``.
        threads: Threads of one prediction.
    """

    def __init__(self, cache: Path | None = None, threads: int = 1) -> None:
        self.cache = cache
        self.threads = threads
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __call__(self, folder: Path) -> ServedModel:
        """Load a saved model's folder.

        Raises:
            CrosspropError: It is no saved model or damaged; the message says what to do.
        """
        from crossprop.inference.compiled import cache_folder

        place = cache_folder(self.cache)
        apart = partial(self._compile, folder, place)
        return ServedModel.load(folder, cache=place, threads=self.threads, compile_apart=apart)

    def close(self) -> None:
        """End what is being compiled; it is begun anew when it is needed again."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.terminate()

    def _compile(self, folder: Path, place: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "crossprop.service.compiling",
            str(folder),
            str(place),
            str(self.threads),
        ]
        with self._lock:
            if self._closed:
                raise ModelFormatError("The service is being stopped, so nothing is compiled any more.")
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self._running.add(process)
        try:
            _, said = process.communicate(timeout=_LONGEST)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise ModelFormatError(f"{folder} was not compiled within {_LONGEST:g} seconds.") from error
        finally:
            with self._lock:
                self._running.discard(process)
        if process.returncode:
            last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
            reason = last or f"the process ended with status {process.returncode}"
            raise ModelFormatError(f"{folder} cannot be compiled: {reason[:400]}")


def main() -> None:
    """Compile one model, giving way to whoever else needs the machine."""
    if hasattr(os, "nice"):
        os.nice(10)
    folder, cache, threads = sys.argv[1:]
    try:
        ServedModel.load(Path(folder), cache=Path(cache), threads=int(threads))
    except CrosspropError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
