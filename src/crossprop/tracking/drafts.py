"""A run as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from crossprop.errors import TrackingError

_MAX_PARAM_CHARACTERS = 6000


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set as MLflow shows it beside a run.

    Attributes:
        name: E.g. ``exfoliation_energy.train``.
        digest: Content hash; MLflow keeps 36 characters.
        context: ``training``, ``validation`` or ``testing``.
        source: Path or URL of the table.
        unit: Unit of its column ``value``.
        n_rows: Rows used.
    """

    name: str
    digest: str
    context: str
    source: str
    unit: str
    n_rows: int


@dataclass(frozen=True, kw_only=True)
class RunDraft:
    """All that one run will hold.

    Attributes:
        experiment: Name of its experiment.
        notes: Description of the experiment, used when it is created; may hold ``EXPERIMENT_ID``.
        identity: Tag that names the thing recorded; at most one finished run of a fingerprint carries it.
        fingerprint: Digest of what was recorded: another outcome of the same thing gets a run of its own.
        name: Shown in the list of runs.
        tags: Further tags.
        params: Hyperparameters and settings, as text.
        metrics: ``(key, value, step)``; every value must be finite.
        data_sets: Inputs.
        seconds: Time that the work itself took: the run starts that much before now.
        failure: Why the work failed; the run then ends as FAILED.
    """

    experiment: str
    notes: str
    identity: tuple[str, str]
    fingerprint: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: tuple[tuple[str, float, int], ...]
    data_sets: tuple[DataSet, ...] = ()
    seconds: float = 0.0
    failure: str | None = None

    def check(self) -> None:
        """Refuse what MLflow would accept silently and show wrongly: NaN, infinities, texts that it cuts.

        Raises:
            TrackingError: The message names the run and the value.
        """
        for key, value, step in self.metrics:
            if not math.isfinite(value):
                raise TrackingError(
                    f"Metric {key!r} of {self.name!r} in {self.experiment} is {value} (step {step}). A run "
                    "is recorded with finite numbers only: find out why it diverged, or record it as failed."
                )
        for key, text in self.params.items():
            if len(text) > _MAX_PARAM_CHARACTERS:
                raise TrackingError(
                    f"Parameter {key!r} of {self.name!r} has {len(text)} characters; MLflow cuts at "
                    f"{_MAX_PARAM_CHARACTERS}. Shorten it or write it to an artifact."
                )
