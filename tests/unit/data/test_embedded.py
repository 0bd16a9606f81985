"""The embedded data set, as it is installed."""

from pathlib import Path

import numpy as np
import pytest

from crossprop.data.catalog import load_catalog
from crossprop.data.embedded import embedded_archive
from crossprop.data.prepare import prepare_target
from crossprop.errors import DataError

CATALOG = load_catalog()
TARGETS = ("seebeck_n", "log_mass_n", "log_kappa_n", "log_powerfactor_n")
NOWHERE = Path("nowhere")


def test_every_target_has_the_same_500_and_1000_compositions():
    assert {CATALOG.property(key).merge for key in TARGETS} == {"median"}
    frames = [prepare_target(CATALOG, key, NOWHERE).frame for key in TARGETS]
    for frame in frames:
        assert frame["split"].value_counts().to_dict() == {"train": 500, "test": 1000}
        assert frame["composition"].is_unique
        assert frame[["composition", "split"]].equals(frames[0][["composition", "split"]])
        assert np.isfinite(frame["value"]).all()


def test_another_archive_than_the_pinned_one_is_refused():
    for change, part in (
        ({"sha256": "0" * 64}, r"not the file that the catalogue pins.*Reinstall 'matminer'"),
        ({"package": "absent_package"}, "'absent_package' is not installed"),
    ):
        with pytest.raises(DataError, match=part):
            embedded_archive(CATALOG.packages["transport"].model_copy(update=change))
