"""A tiny catalogue of the user, on files that a test writes."""

import pytest
import yaml

from crossprop.data.catalog import load_catalog
from crossprop.data.download import blob_id, fetch_files


@pytest.fixture
def build_catalog(tmp_path):
    """Build a catalogue from properties whose files are {split: text}; return it with fetched data."""

    def pins(texts, stem):
        paths = {split: tmp_path / "mine" / f"{stem}_{split}.csv" for split in texts}
        for split, path in paths.items():
            path.write_text(texts[split], encoding="utf-8")
        return [{"split": split, "path": p.name, "blob": blob_id(p)} for split, p in paths.items()]

    def build(properties):
        (tmp_path / "mine").mkdir(exist_ok=True)
        common = {"unit": "eV", "origin": "mine", "columns": {"formula": "formula", "value": "value"}}
        common |= dict.fromkeys(("description", "citation", "licence"), "none")
        entries = {}
        for key, values in properties.items():
            entry = {"label": f"My{key}", **common, **values}
            entries[key] = entry | {"files": pins(entry.pop("texts"), key)}
            for edition in entry.get("editions", {}).values():
                for i, supplement in enumerate(edition.get("supplements", [])):
                    supplement["files"] = pins(supplement.pop("texts"), f"{key}_{i}")
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump({"origins": {"mine": {"folder": "mine"}}, "properties": entries}))
        catalog = load_catalog(path)
        for key in entries:
            for edition in entries[key].get("editions", {}) or [None]:
                fetch_files(catalog.property(key).pinned_files(edition), tmp_path / "raw")
        return catalog, tmp_path / "raw"

    return build


@pytest.fixture
def tiny(build_catalog):
    """A target of six rows (MgO stands in both parts) and a source of alloys and the target's compositions."""
    train = "formula,value\nNaCl,1.0\nMgO,2.0\nFe2O3,3.0\nKBr,4.0\n"
    texts = {"train": train, "test": "formula,value\nMoS2,5.0\nMg2O2,6.0\n"}
    alloys = "".join(f"Li{i}Na1,{i / 10}\n" for i in range(1, 41))
    source = f"formula,value\n{alloys}Na2Cl2,9.0\nMo0.333333S0.666667,9.0\nOMg,9.0\n"
    target = {"roles": ["target"], "texts": texts}
    tiny_source = {"roles": ["source"], "texts": {"all": source}}
    return build_catalog({"tiny_target": target, "tiny_source": tiny_source})
