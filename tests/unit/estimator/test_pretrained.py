"""Which source networks may be used for which rows."""

from contextlib import nullcontext
from dataclasses import asdict

import pandas as pd
import pytest
from made_rows import rows_of, write_networks

from crossprop.data.cleaning import report_frame
from crossprop.data.compositions import composition_keys, fraction_matrix
from crossprop.data.prepared import PreparedData
from crossprop.errors import ConfigError, ModelFormatError, PretrainingError
from crossprop.estimator import pretrained
from crossprop.estimator.pretrained import (
    FORMAT,
    RECIPES,
    SourceNetworks,
    SourceRecipe,
    fallback_of,
    find_networks,
    networks_for,
    train_networks,
)
from crossprop.experiments.fingerprint import OF_NETWORKS, code_digest, data_digest
from crossprop.experiments.pretrain import source_rows
from crossprop.features.matrices import write_features
from crossprop.io import write_digests, write_json
from crossprop.methods import Representation
from crossprop.paths import StudyPaths


def keys_of(*formulas):
    return composition_keys(fraction_matrix(formulas)).tolist()


def test_a_composition_that_was_seen_is_found_under_any_spelling_and_refused(tmp_path):
    networks = SourceNetworks.load(
        write_networks(tmp_path / "n", ["NaCl", "Fe2O3", "AlTiO5", "Al0.1429F0.7143Fe0.1429"])
    )
    assert networks.overlap(keys_of("AlFeF5", "Al14.29Ti14.29O71.43", "AlFeF6")).tolist() == [True, True, False]
    assert networks.overlap(keys_of("Na2Cl2", "KCl", "Fe4O6")).tolist() == [True, False, True]
    networks.check_usable_for(keys_of("KCl"), keys_of("LiF"))
    with pytest.raises(ConfigError, match=r"on 1 of the 2 rows' compositions .*Cl:0\.5000 Na:0\.5000"):
        networks.check_usable_for(keys_of("KCl", "NaCl"), [])
    few = ["KCl", "LiF", "KBr", "CsCl", "NaCl"]
    assert networks.usable_for([], keys_of(*few))  # one of five
    assert not networks.usable_for([], keys_of(*few[1:]))
    assert not SourceNetworks.load(write_networks(tmp_path / "empty", [])).overlap(keys_of("NaCl")).any()


TABLES = {
    source: pd.DataFrame({"formula": formulas, "composition": keys_of(*formulas)}).assign(
        split=["train", "validation"], value=1.0
    )
    for source, formulas in (("band_gap", ["NaCl", "Fe2O3"]), ("stability", ["KCl", "MgO"]))
}


def write_provenance(folder, data_sha256, **facts):
    """A folder that holds only what is known about a network."""
    folder.mkdir(parents=True)
    facts |= {"data_sha256": data_sha256, "code_sha256": code_digest(OF_NETWORKS)}
    write_json(folder / "provenance.json", facts)
    write_digests(folder)


@pytest.mark.parametrize("joint", ["all_sources", "transport_p"])
def test_networks_of_a_study_know_what_its_prepared_tables_hold(tmp_path, joint):
    paths, folder = StudyPaths("own", tmp_path), tmp_path / "models" / "own"
    paths.prepared_folder.mkdir(parents=True)
    for source, frame in TABLES.items():
        frame.to_parquet(paths.prepared(source))
        write_features(frame, paths.features(source), list(Representation)[:2])
    write_provenance(folder / "stability", data_digest(TABLES["stability"]))
    with pytest.raises(ModelFormatError, match=r"0 joint networks .* instead of one \(networks: stability\)"):
        SourceNetworks.load(folder)
    write_provenance(folder / joint, source_rows(tuple(TABLES), paths).digest, sources=list(TABLES))
    networks = SourceNetworks.load(folder)
    assert (networks.sources, networks.elemnets) == (("band_gap", "stability"), ("stability",))
    assert (networks.joint, networks.recipe) == (joint, "study own")
    assert networks.overlap(keys_of("Na2Cl2", "KCl", "LiF")).tolist() == [True, True, False]
    TABLES["stability"].assign(value=2.0).to_parquet(paths.prepared("stability"))
    with pytest.raises(ModelFormatError, match=f"{joint} learnt other rows or features than"):
        SourceNetworks.load(folder)


@pytest.mark.parametrize("changed", [{"format": 99}, {"sources": None}])
def test_a_folder_of_another_format_is_refused(tmp_path, changed):
    with pytest.raises(ModelFormatError, match="no source networks"):
        SourceNetworks.load(write_networks(tmp_path / "n", ["NaCl"], **changed))


def test_the_largest_cached_networks_that_have_not_seen_the_rows_are_taken(tmp_path):
    write_networks(tmp_path / "networks" / "a", ["KCl"], "short")
    write_networks(tmp_path / "networks" / "b", ["LiF"], "quick")
    write_networks(tmp_path / "networks" / "c", ["NaCl"], "full")
    write_networks(tmp_path / "networks" / "damaged", ["LiF"], "full", format=FORMAT + 1)
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


def test_a_failed_training_says_why_and_leaves_nothing(tmp_path):
    recipe = SourceRecipe("own", ("no_such_source",), (), 1, None, 1.0)
    with pytest.raises(PretrainingError, match=r"exit status 1.*no_such_source.*--sources none"):
        pretrained.prepare_sources(rows_of(12)["formula"], recipe, cache=tmp_path, write=lambda line: None)
    assert [path.suffix for path in (tmp_path / "networks").iterdir()] == [".lock"]


def test_training_that_was_stopped_goes_on_with_its_checkpoints_and_finished_networks(tmp_path, monkeypatch):
    folder, begun = tmp_path / "networks" / "n", []

    def prepared(catalog, source, *given):
        return PreparedData(TABLES[source], report_frame([]))

    def train(paths, name, data_sha256, **facts):
        checkpoint = paths.checkpoint(name)
        begun.append((name, checkpoint.is_file()))
        if not checkpoint.is_file():
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.touch()
            (paths.source_model(name).parent / f"{name}.1.tmp").mkdir(parents=True)  # half a network
            raise RuntimeError
        write_provenance(paths.source_model(name), data_sha256, **facts)

    def pretrain(params, name, units, paths):
        if name in TABLES:
            train(paths, name, data_digest(TABLES[name]))
        else:
            train(paths, name, source_rows(tuple(TABLES), paths).digest, sources=list(TABLES))

    fakes = {"_fetch": lambda *given: "open", "prepare_source": prepared, "pretrain": pretrain}
    for name, fake in fakes.items():
        monkeypatch.setattr(pretrained, name, fake)
    recipe = SourceRecipe("short", tuple(TABLES), ("stability",), 10, None, 1.0)
    for start in range(3):
        with nullcontext() if start == 2 else pytest.raises(RuntimeError):
            train_networks({"recipe": asdict(recipe), "seed": 1, "workers": 1, "keys": []}, folder)
    assert begun == [(n, found) for n in ("all_sources", "stability") for found in (False, True)]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["n", "n.lock"]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"all_sources", "stability"}
    assert SourceNetworks.load(folder).elemnets == ("stability",)
