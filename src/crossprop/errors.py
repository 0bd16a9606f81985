"""Named exceptions. Every message says what was received, where, why it is refused and what to do."""

import sys
from collections.abc import Callable


class CrosspropError(Exception):
    """Base of all errors that a user can correct; the command line prints them without a traceback."""


class ConfigError(CrosspropError):
    """A configuration value is unknown, of the wrong type or impossible."""


class FormulaError(CrosspropError):
    """A text is no chemical formula."""


class UnknownElementError(FormulaError):
    """A formula holds an element outside the 86 that the networks know."""


class DataError(CrosspropError):
    """A data file is missing, damaged or holds what no model can be fitted to."""


class FetchError(DataError):
    """A catalogued file could not be fetched whole and unaltered."""


class UserFileError(DataError):
    """A file of the user cannot be read, or must not be added as it is."""


class UnknownPropertyError(DataError):
    """No catalogue entry has this name."""


class ShapeMismatchError(CrosspropError):
    """Two arrays that belong together differ in shape."""


class CellError(CrosspropError):
    """A cell could not be computed."""


class DivergedError(CellError):
    """Training produced a loss that is no number."""


class CollapsedError(CellError):
    """A network predicts little more than one value."""


class StoreError(CrosspropError):
    """Results could not be written or read back."""


class TrackingError(CrosspropError):
    """The tracking store or the model registry refused or is not what it should be."""


class StoreOutOfReachError(TrackingError):
    """The tracking store does not answer now but may soon: a server that restarts, a lock that is held."""


class UnknownModelError(TrackingError):
    """The registry holds no such model, version or alias, or several of that name."""


class PromotionError(TrackingError):
    """A champion could not be changed: every alias stays as it was."""


class ModelFormatError(CrosspropError):
    """A saved model is incomplete or holds something that is not trusted."""


class ServiceError(CrosspropError):
    """The HTTP service cannot start, or cannot answer a request."""


class ScreeningError(CrosspropError):
    """A screening cannot be set up, continued or written."""


class ExpressionError(ScreeningError):
    """A condition or a quantity to rank by is no valid expression."""


class PretrainingError(CrosspropError):
    """Source networks for the data of a user could not be trained."""


class EstimatorInputError(DataError, ValueError):
    """An estimator cannot learn from or predict what it was given; also a ``ValueError``, as scikit-learn expects."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command; an error that the user can correct is printed without a traceback and ends with status 1."""
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
            f"{type(error).__name__}: {error}. Check the disk and the permissions, then run again.",
            file=sys.stderr,
        )
        sys.exit(1)
