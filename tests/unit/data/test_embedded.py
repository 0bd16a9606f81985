"""The embedded data set, as it is installed."""

from pathlib import Path

import numpy as np
import pytest

from crossprop.data.catalog import load_catalog
from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.data.embedded import embedded_archive, embedded_table
from crossprop.data.prepare import prepare_target
from crossprop.data.sources import prepare_source
from crossprop.errors import DataError

CATALOG = load_catalog()
TARGETS = ("seebeck_n", "log_mass_n", "log_kappa_n", "log_powerfactor_n")
NOWHERE = Path("nowhere")


def test_every_target_has_the_same_500_and_1000_compositions():
    frames = [prepare_target(CATALOG, key, NOWHERE).frame for key in TARGETS]
    for frame in frames:
        assert frame["split"].value_counts().to_dict() == {"train": 500, "test": 1000}
        assert frame["composition"].is_unique
        assert frame[["composition", "split"]].equals(frames[0][["composition", "split"]])
        assert np.isfinite(frame["value"]).all()


def test_polymorphs_become_the_median_of_their_values_after_the_logarithm():
    rows = embedded_table(CATALOG, CATALOG.property("log_mass_n")).rows
    (key,) = composition_keys(fraction_matrix(["MoS2"]))
    values = rows.loc[rows["composition"] == key, "value"]
    assert len(values) > 1
    source = CATALOG.property("log_mass_n").model_copy(update={"roles": ("source",), "key": "mass"})
    catalog = CATALOG.model_copy(update={"properties": {"mass": source}})
    frame = prepare_source(catalog, "mass", NOWHERE).frame
    merged = frame.loc[frame["composition"] == key, "value"].item()
    assert merged == pytest.approx(float(np.median(values)))
    assert frame["composition"].is_unique


def test_another_archive_than_the_pinned_one_is_refused():
    for change, part in (
        ({"sha256": "0" * 64}, r"not the file that the catalogue pins.*Reinstall 'matminer'"),
        ({"package": "absent_package"}, "'absent_package' is not installed"),
    ):
        with pytest.raises(DataError, match=part):
            embedded_archive(CATALOG.packages["transport"].model_copy(update=change))
