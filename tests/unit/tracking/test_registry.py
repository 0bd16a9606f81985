import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest
from registries import NAME, add_version, client_of, evidence_table, make_model
from rich.text import Text

from crossprop.cli.registry import history_lines, overview_rows, overview_table
from crossprop.errors import StoreOutOfReachError, TrackingError, UnknownModelError
from crossprop.tracking import registry
from crossprop.tracking.registry import all_models, assert_complete, champions, find_version, predictor_folder

PREDICTOR = {"python_function": {"artifacts": {"predictor": {"path": "../../secrets"}}}}
OUTSIDE = json.dumps({"flavors": PREDICTOR})


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "registered", evidence_table())


def test_versions_are_found_by_target_number_and_alias_and_deleted_or_foreign_ones_are_not(uri, model):
    add_version(uri, model, alias="champion")
    add_version(uri, model)
    champion = find_version(uri, "bulk_modulus")
    facts = (champion.study, champion.target, champion.version, champion.unit, champion.description)
    assert facts == ("demo", "bulk_modulus", "1", "GPa", "The bulk_modulus")
    assert champion.aliases == ("champion",)
    assert datetime.now(UTC) - champion.created < timedelta(minutes=5)
    assert find_version(uri, NAME, alias="challenger").version == "2"
    assert find_version(uri, NAME, version="v2").aliases == ("challenger",)
    client = client_of(uri)
    client.delete_model_version(NAME, "1")
    client.create_registered_model("recommender")
    client.create_model_version("recommender", "/somewhere")
    client.set_registered_model_alias("recommender", "champion", 1)
    assert champions(uri) == {}
    assert [m.name for m in all_models(uri)] == [NAME]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bulkmodulus", {}, r"no registered model 'bulkmodulus' among 3\. Near names: demo\.bulk_modulus"),
        ("gap", {}, r"'gap' is a target of several studies: demo\.gap, other\.gap"),
        (NAME, {}, "the alias 'champion' .*Give it to one with 'crossprop promote demo.bulk_modulus'"),
        (NAME, {"version": 7}, r"no version 7 \(its versions: 1\)"),
        (NAME, {"alias": "previous"}, "Aliases that there are: challenger"),
    ],
)
def test_what_is_not_there_is_named_with_what_there_is(uri, model, name, options, message):
    for registered in (NAME, "demo.gap", "other.gap"):
        add_version(uri, model, registered)
    with pytest.raises(UnknownModelError, match=message):
        find_version(uri, name, **options)


def test_store_that_is_gone_is_named_and_a_new_one_is_read(uri, model, tmp_path, template_store):
    add_version(uri, model, alias="champion")
    assert champions(uri)
    path = tmp_path / "mlflow.db"
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    with pytest.raises(StoreOutOfReachError, match=r"no registry at .*mlflow\.db"):
        champions(uri)
    assert not path.exists()
    shutil.copy(template_store, path)
    assert champions(uri) == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: shutil.rmtree(model / "artifacts/model/fold_00"), "fold_00 is missing. Put"),
        (lambda model: (model / "artifacts/model/model.json").write_text("{"), "no readable model.json"),
        (shutil.rmtree, "MLmodel cannot be read"),
        (lambda model: (model / "MLmodel").write_text(OUTSIDE), "outside of the model"),
    ],
)
def test_damaged_files_are_named_with_what_to_do(uri, model, damage, message):
    add_version(uri, model, alias="champion")
    info = champions(uri)[NAME]
    assert predictor_folder(uri, info) == model / "artifacts" / "model"
    damage(model)
    with pytest.raises(TrackingError, match=rf"version 1 are incomplete: .*{message}"):
        predictor_folder(uri, info)


def test_remote_files_are_fetched_once_and_completely_or_not_at_all(uri, model, tmp_path, monkeypatch):
    add_version(uri, model, alias="champion")
    info = champions(uri)[NAME]
    monkeypatch.setattr(registry, "local_path", lambda location: None)
    cache = tmp_path / "cache"
    folder = predictor_folder(uri, info, cache)
    assert sorted(p.name for p in folder.iterdir()) == ["evidence.parquet", "fold_00", "model.json"]
    assert_complete(uri, info)
    shutil.rmtree(model / "artifacts" / "model" / "fold_00")
    assert predictor_folder(uri, info, cache) == folder
    shutil.rmtree(folder.parents[1])
    with pytest.raises(TrackingError, match=r"version 1 are incomplete: .*fold_00 is missing"):
        predictor_folder(uri, info, cache)
    assert [p for p in cache.glob("*/*") if p.is_dir()] == []
    shutil.rmtree(model)
    with pytest.raises(TrackingError, match="version 1 are incomplete"):
        assert_complete(uri, info)


def test_copies_that_no_alias_names_are_removed_when_a_new_one_is_fetched(uri, model, tmp_path, monkeypatch):
    for _ in range(4):
        add_version(uri, model, alias=None)
    client_of(uri).set_registered_model_alias(NAME, "previous", 1)
    add_version(uri, model, "demo.other")
    monkeypatch.setattr(registry, "local_path", lambda location: None)
    cache = tmp_path / "cache"

    def fetch(number, name=NAME):
        return predictor_folder(uri, find_version(uri, name, version=number), cache)

    folders = [fetch(1), fetch(2), fetch(3), fetch(1, "demo.other")]
    assert all(folder.is_dir() for folder in folders)  # used a moment ago
    ago = time.time() - 2 * registry.KEPT_UNUSED_SECONDS
    for copy in cache.glob("*/demo*"):
        os.utime(copy, (ago, ago))
    killed = folders[0].parents[2] / "killed.tmp"
    killed.mkdir()
    fetch(3)
    fetch(4)
    assert [folder.is_dir() for folder in (*folders, killed)] == [True, False, True, True, False]
    assert fetch(2).is_dir()


def test_overview_shows_who_is_champion_and_whether_the_challenger_is_better(uri, model):
    odd = "demo.o'brien [odd]* Å"
    add_version(uri, model, alias="champion", test_mae_ensemble=2.0, method="ml")
    add_version(uri, model, test_mae_ensemble=1.5, method="blend", n_test=40)
    add_version(uri, model, odd, test_mae_ensemble=0.3)
    assert find_version(uri, odd, version=1).name == odd
    models = all_models(uri)
    modulus, other = overview_rows(models)
    assert (other["champion"], other["challenger"]["version"]) == (None, "1")
    assert (other["challenger_has_lower_mae"], modulus["challenger_has_lower_mae"]) == (None, True)
    assert (modulus["champion"]["holdout_mae"], modulus["challenger"]["holdout_rows"]) == (2.0, 40)
    cells = {c.header: list(c.cells) for c in overview_table(models).columns}
    assert cells["champion"] == ["v1 ml", "–"]
    assert cells["challenger is"] == ["lower (-25.0%)", "the first"]
    assert odd.removeprefix("demo.") in [Text.from_markup(cell).plain for cell in cells["target"]]
    moved = "The alias 'champion' was moved to version 1 by hand; who and when is not known."
    assert history_lines(models[0]) == [moved]
    assert [m.name for m in all_models(uri, "other")] == []
