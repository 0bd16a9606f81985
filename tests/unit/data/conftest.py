"""A tiny catalogue of the user, on files that a test writes."""

import pytest
import yaml

from crossprop.data.catalog import load_catalog
from crossprop.data.download import blob_id, fetch_files

TARGET_TRAIN = "formula,value\nNaCl,1.0\nMgO,2.0\nFe2O3,3.0\nKBr,4.0\n"
TARGET_TEST = "formula,value\nMoS2,5.0\nMg2O2,6.0\n"


def source_text(n=40):
    """Source rows: n alkali-metal alloys, and compositions of the tiny target in other spellings."""
    rows = [f"Li{i}Na1,{i / 10}" for i in range(1, n + 1)]
    return "formula,value\n" + "\n".join([*rows, "Na2Cl2,9.0", "Mo0.333333S0.666667,9.0", "OMg,9.0"]) + "\n"


@pytest.fixture
def build_catalog(tmp_path):
    """Build a catalogue from properties whose files are {split: text}; return it with fetched data."""

    def build(properties):
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        entries = {}
        for key, values in properties.items():
            values = dict(values)

            def pins(texts, stem):
                found = []
                for split, text in texts.items():
                    path = folder / f"{stem}_{split}.csv"
                    path.write_text(text, encoding="utf-8")
                    found.append({"split": split, "path": path.name, "blob": blob_id(path)})
                return found

            entries[key] = {
                "label": f"My{key}",
                "unit": "eV",
                "description": key,
                "citation": "none",
                "licence": "none",
                "origin": "mine",
                "columns": {"formula": "formula", "value": "value"},
                "files": pins(values.pop("texts"), key),
            } | values
            for edition in entries[key].get("editions", {}).values():
                for i, supplement in enumerate(edition.get("supplements", [])):
                    supplement["files"] = pins(supplement.pop("texts"), f"{key}_{i}")
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"origins": {"mine": {"folder": "mine"}}, "properties": entries}))
        catalog = load_catalog(path)
        raw = tmp_path / "raw"
        for key in entries:
            for edition in entries[key].get("editions", {}) or [None]:
                fetch_files(catalog.property(key).pinned_files(edition), raw)
        return catalog, raw

    return build


@pytest.fixture
def tiny(build_catalog):
    """A target of six rows (MgO stands in both parts) and a source that holds its compositions too."""
    return build_catalog(
        {
            "tiny_target": {"roles": ["target"], "texts": {"train": TARGET_TRAIN, "test": TARGET_TEST}},
            "tiny_source": {"roles": ["source"], "texts": {"all": source_text()}},
        }
    )
