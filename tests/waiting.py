"""Waiting for what other threads and processes do: until it is so, not for a time that is hoped to be long enough."""

import time
from collections.abc import Callable

PATIENCE = 240.0
"""Seconds after which something is taken to have failed; what gives way to others may take minutes."""


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Come back as soon as a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
