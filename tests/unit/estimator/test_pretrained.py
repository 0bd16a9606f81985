"""Which source networks may be used for which rows."""

import pandas as pd
import pytest
from made_rows import rows_of, write_networks

from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.errors import ConfigError, ModelFormatError, PretrainingError
from crossprop.estimator import pretrained
from crossprop.estimator.pretrained import RECIPES, SourceNetworks, fallback_of, find_networks, networks_for
from crossprop.experiments.fingerprint import data_digest, digest
from crossprop.paths import StudyPaths


def keys_of(*formulas):
    return composition_keys(fraction_matrix(formulas)).tolist()


def test_a_composition_that_was_seen_is_found_under_any_spelling_and_refused(tmp_path):
    networks = SourceNetworks.load(write_networks(tmp_path / "n", ["NaCl", "Fe2O3"]))
    assert networks.overlap(keys_of("Na2Cl2", "KCl", "Fe4O6")).tolist() == [True, False, True]
    networks.check_usable_for(keys_of("KCl"), keys_of("LiF"))
    with pytest.raises(ConfigError, match=r"on 1 of the 2 rows' compositions .*Cl:0\.5000 Na:0\.5000"):
        networks.check_usable_for(keys_of("KCl", "NaCl"), [])
    few = ["KCl", "LiF", "KBr", "CsCl", "NaCl"]
    assert networks.usable_for([], keys_of(*few))  # one of five
    assert not networks.usable_for([], keys_of(*few[1:]))
    assert not SourceNetworks.load(write_networks(tmp_path / "empty", [])).overlap(keys_of("NaCl")).any()


def test_networks_of_a_study_know_what_its_prepared_tables_hold(tmp_path, monkeypatch):
    paths, tables = StudyPaths("own", tmp_path), {}
    for source, formulas in (("band_gap", ["NaCl", "Fe2O3"]), ("stability", ["KCl"])):
        frame = pd.DataFrame({"formula": formulas, "composition": keys_of(*formulas)})
        tables[source] = frame.assign(split="train", value=1.0)
        paths.prepared_folder.mkdir(parents=True, exist_ok=True)
        tables[source].to_parquet(paths.prepared(source))
    digests = {source: data_digest(frame) for source, frame in tables.items()}
    known = {
        "all_sources": {"sources": list(tables), "data_sha256": digest(list(digests.values()))},
        "stability": {"data_sha256": digests["stability"]},
    }
    for name in known:
        paths.source_model(name).mkdir(parents=True)
    monkeypatch.setattr(pretrained, "load_provenance", lambda folder: known[folder.name])
    networks = SourceNetworks.load(tmp_path / "models" / "own")
    assert (networks.sources, networks.elemnets) == (("band_gap", "stability"), ("stability",))
    assert networks.overlap(keys_of("Na2Cl2", "KCl", "LiF")).tolist() == [True, True, False]
    tables["stability"].assign(composition=keys_of("KBr")).to_parquet(paths.prepared("stability"))
    with pytest.raises(ModelFormatError, match="all_sources learnt other rows than those in"):
        SourceNetworks.load(tmp_path / "models" / "own")


@pytest.mark.parametrize("changed", [{"format": 99}, {"sources": None}])
def test_a_folder_of_another_format_is_refused(tmp_path, changed):
    with pytest.raises(ModelFormatError, match="no source networks"):
        SourceNetworks.load(write_networks(tmp_path / "n", ["NaCl"], **changed))


def test_the_largest_cached_networks_that_have_not_seen_the_rows_are_taken(tmp_path):
    write_networks(tmp_path / "networks" / "a", ["KCl"], "short")
    write_networks(tmp_path / "networks" / "b", ["LiF"], "quick")
    write_networks(tmp_path / "networks" / "c", ["NaCl"], "full")
    write_networks(tmp_path / "networks" / "damaged", ["LiF"], "full", format=2)
    assert find_networks(keys_of("NaCl"), tmp_path).recipe == "quick"
    assert find_networks(keys_of("NaCl", "LiF"), tmp_path).recipe == "short"
    assert find_networks(keys_of("NaCl", "LiF", "KCl"), tmp_path) is None
    learnt = keys_of("KCl", "KBr", "CsCl", "RbF", "LiBr")
    assert find_networks(keys_of("NaCl", "LiF"), tmp_path, learnt).recipe == "short"


def test_networks_of_the_fallback_are_the_last_choice_and_do_not_replace_training(tmp_path, monkeypatch):
    stand_in = write_networks(tmp_path / "networks" / "x_embedded", ["LiF"], "embedded")
    assert find_networks(keys_of("NaCl"), tmp_path).folder == stand_in
    asked = []
    monkeypatch.setattr(
        "crossprop.estimator.pretrained._train",
        lambda folder, job, write: asked.append(write_networks(fallback_of(folder), ["LiF"], "embedded")),
    )
    found = networks_for(keys_of("NaCl"), RECIPES[0], cache=tmp_path, write=lambda line: None)
    assert [found.folder] == asked
    write_networks(tmp_path / "networks" / "y", ["LiF"], "short")
    assert find_networks(keys_of("NaCl"), tmp_path).recipe == "short"


def test_cached_networks_of_a_larger_recipe_replace_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr("crossprop.estimator.pretrained._train", lambda *job: pytest.fail("trained"))
    folder = write_networks(tmp_path / "networks" / "b", ["LiF"], "quick")
    lines = []
    found = networks_for(keys_of("NaCl"), RECIPES[0], cache=tmp_path, write=lines.append)
    assert found.folder == folder
    assert "cached" in lines[0]


def test_a_failed_training_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("crossprop.estimator.pretrained.JOB_FILE", "elsewhere.json")
    with pytest.raises(PretrainingError, match=r"exit status 1.*--sources none"):
        pretrained.prepare_sources(rows_of(12)["formula"], cache=tmp_path, write=lambda line: None)
    assert list((tmp_path / "networks").iterdir()) == []
