"""How a command ends: quietly, or with one clear error and a non-zero exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from crossprop.errors import CrosspropError


def run_command(command: Callable[[], None]) -> None:
    """Run a command; an error that the user can mend is printed without a traceback and ends with status 1."""
    try:
        command()
    except CrosspropError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept, run the same command to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        print(
            f"{type(error).__name__}: {error}. Mend the disk or the permissions and run again.",
            file=sys.stderr,
        )
        sys.exit(1)
