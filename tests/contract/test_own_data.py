"""The place of one's own data in the project: it is there, empty or not, and the stages depend on it."""

from __future__ import annotations

from pathlib import Path

import yaml

from crossprop.data.catalog import load_catalog
from crossprop.paths import OWN_CATALOG

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_the_catalogue_of_ones_own_is_there_and_valid():
    """Stages depend on it: DVC would refuse to run without it."""
    load_catalog(ROOT / OWN_CATALOG)


def test_stages_that_read_own_data_depend_on_it():
    assert "own" in STAGES["fetch"]["deps"]  # the files as well: one that was changed by hand must be noticed
    for name in ("prepare", "summarize"):
        assert OWN_CATALOG.as_posix() in STAGES[name]["deps"]


def test_files_of_ones_own_are_not_ignored():
    """DVC writes `own/.gitignore` for the data; catalogue and `.dvc` files belong in git."""
    for name in (".gitignore", ".dvcignore"):
        lines = (ROOT / name).read_text().splitlines()
        assert not any(line.strip("/").split("/")[0] == "own" for line in lines)
