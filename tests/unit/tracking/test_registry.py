import json
import os
import shutil
import sqlite3
import time
from datetime import UTC, datetime, timedelta

import pytest
from registries import NAME, add_version, client_of, evidence_table, make_model
from rich.text import Text

from crossprop.errors import StoreOutOfReachError, TrackingError, UnknownModelError
from crossprop.tracking import registry
from crossprop.tracking.overview import history_lines, overview_rows, overview_table
from crossprop.tracking.registry import all_models, assert_complete, champions, find_version, predictor_folder


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "registered", evidence_table())


@pytest.fixture
def calls(monkeypatch):
    """Names of the client's methods that were called."""
    from mlflow import MlflowClient

    seen = []

    def counted(name, method):
        def call(self, *args, **kwargs):
            seen.append(name)
            return method(self, *args, **kwargs)

        return call

    monkeypatch.setattr(registry, "_REMEMBERED_SECONDS", 1e9)
    for name in ("search_registered_models", "search_model_versions", "get_model_version"):
        monkeypatch.setattr(MlflowClient, name, counted(name, getattr(MlflowClient, name)))
    return seen


@pytest.mark.parametrize(
    ("store", "error", "message"),
    [
        ("mlruns", TrackingError, "a folder of files, which MLflow no longer supports"),
        ("sqlite:///notes.db", TrackingError, "damaged"),
        ("http://127.0.0.1:9", StoreOutOfReachError, r"127\.0\.0\.1:9 failed .*nothing answers there"),
    ],
)
def test_what_is_no_registry_is_named(tmp_path, monkeypatch, store, error, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "notes.db").write_text("my notes " * 500, encoding="utf-8")
    with pytest.raises(error, match=message):
        champions(store)


def test_versions_are_found_by_target_number_and_alias_and_deleted_ones_are_not(uri, model):
    add_version(uri, model, alias="champion")
    add_version(uri, model)
    champion = find_version(uri, "bulk_modulus")
    assert (champion.study, champion.target, champion.version, champion.unit) == (
        "demo",
        "bulk_modulus",
        "1",
        "GPa",
    )
    assert (champion.description, champion.aliases) == ("The bulk_modulus", ("champion",))
    assert datetime.now(UTC) - champion.created < timedelta(minutes=5)
    assert find_version(uri, NAME, alias="challenger").version == "2"
    assert find_version(uri, NAME, version="v2").aliases == ("challenger",)
    client_of(uri).delete_model_version(NAME, "1")
    assert champions(uri) == {}
    with pytest.raises(UnknownModelError, match="no version 1"):
        find_version(uri, NAME, version=1)


def test_champions_that_are_no_newest_versions_are_asked_for_once_a_minute(uri, model, calls):
    for n, target in enumerate("ab", start=1):
        for _ in range(n):
            add_version(uri, model, f"demo.{target}", alias="champion", test_mae_ensemble=1.5)
        add_version(uri, model, f"demo.{target}")
    calls.clear()
    found = champions(uri)
    assert {(v.target, v.version, v.holdout_mae) for v in found.values()} == {
        ("a", "1", 1.5),
        ("b", "2", 1.5),
    }
    assert calls == ["search_registered_models", *["get_model_version"] * 2]
    calls.clear()
    assert len(champions(uri)) == 2
    assert calls == ["search_registered_models"]
    client_of(uri).set_registered_model_alias("demo.b", "champion", 1)
    assert champions(uri)["demo.b"].version == "1"


def test_alias_that_is_deleted_and_models_of_others_are_not_seen(uri, model):
    client = client_of(uri)
    add_version(uri, model, alias="champion")
    client.delete_registered_model_alias(NAME, "champion")
    client.create_registered_model("recommender")
    client.create_model_version("recommender", "/somewhere")
    client.set_registered_model_alias("recommender", "champion", 1)
    assert champions(uri) == {}
    assert [m.name for m in all_models(uri)] == [NAME]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bulkmodulus", {}, r"no registered model 'bulkmodulus' among 3\. Near names: demo\.bulk_modulus"),
        ("zzz", {}, "'crossprop models' lists those"),
        ("gap", {}, r"'gap' is a target of several studies: demo\.gap, other\.gap"),
        (NAME, {}, "has the alias 'champion'. Give it to one with 'crossprop promote demo.bulk_modulus'"),
        (NAME, {"version": 7}, r"no version 7 \(its versions: 1\)"),
        (NAME, {"version": "../x"}, r"no version '\.\./x'"),
        (NAME, {"alias": "previous"}, "Aliases that there are: challenger; versions: 1"),
    ],
)
def test_what_is_not_there_is_named_with_what_there_is(uri, model, name, options, message):
    for registered in (NAME, "demo.gap", "other.gap"):
        add_version(uri, model, registered)
    with pytest.raises(UnknownModelError, match=message):
        find_version(uri, name, **options)


def test_store_that_is_gone_is_named_and_not_created_and_a_new_one_is_read(
    uri, model, tmp_path, template_store
):
    add_version(uri, model, alias="champion")
    assert champions(uri)
    path, kept = tmp_path / "mlflow.db", tmp_path / "kept.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, kept)
    for file in tmp_path.glob("mlflow.db*"):
        file.unlink()
    with pytest.raises(StoreOutOfReachError, match=r"no registry at .*mlflow\.db"):
        champions(uri)
    assert not path.exists()
    shutil.copy(template_store, path)
    assert champions(uri) == {}
    path.unlink()
    shutil.copy(kept, path)
    assert list(champions(uri)) == [NAME]


def test_damaged_files_are_named_with_what_to_do(uri, model):
    add_version(uri, model, alias="champion")
    info = champions(uri)[NAME]
    ensemble = model / "artifacts" / "model"
    assert predictor_folder(uri, info) == ensemble
    shutil.rmtree(ensemble / "fold_00")
    with pytest.raises(
        TrackingError, match=r"version 1 are incomplete: .*fold_00 is missing\. Put them back"
    ):
        predictor_folder(uri, info)
    (ensemble / "model.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrackingError, match=r"holds no readable model\.json"):
        predictor_folder(uri, info)
    shutil.rmtree(model)
    with pytest.raises(TrackingError, match="MLmodel cannot be read"):
        predictor_folder(uri, info)


@pytest.mark.parametrize("path", ["../../secrets", "/etc"])
def test_files_outside_of_the_model_are_refused(uri, model, path):
    described = {"flavors": {"python_function": {"artifacts": {"predictor": {"path": path}}}}}
    (model / "MLmodel").write_text(json.dumps(described), encoding="utf-8")
    add_version(uri, model, alias="champion")
    with pytest.raises(TrackingError, match="outside of the model"):
        predictor_folder(uri, champions(uri)[NAME])


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

    def fetch(name, number):
        return predictor_folder(uri, find_version(uri, name, version=number), cache)

    folders = {n: fetch(NAME, n) for n in (1, 2, 3)}
    other = fetch("demo.other", 1)
    assert all(folder.is_dir() for folder in folders.values())  # used a moment ago
    ago = time.time() - 2 * registry.KEPT_UNUSED_SECONDS
    for copy in cache.glob("*/demo*"):
        os.utime(copy, (ago, ago))
    fetch(NAME, 3)
    fetch(NAME, 4)
    assert {n: folder.is_dir() for n, folder in folders.items()} == {1: True, 2: False, 3: True}
    assert other.is_dir()
    assert fetch(NAME, 2).is_dir()


@pytest.mark.parametrize("name", ["demo.o'brien", 'demo.a"b', "demo.[odd]*", "demo.ünïcode Å", "demo.--help"])
def test_names_with_odd_characters_are_found_and_shown_whole(uri, model, name):
    add_version(uri, model, name, alias="champion")
    add_version(uri, model, alias="champion")
    assert find_version(uri, name).name == name
    target = name.removeprefix("demo.")
    text = overview_table(all_models(uri)).columns[0]
    assert target in [Text.from_markup(cell).plain for cell in text.cells]


def test_overview_shows_who_is_champion_and_whether_the_challenger_is_better(uri, model):
    add_version(uri, model, alias="champion", test_mae_ensemble=2.0, method="ml")
    add_version(uri, model, test_mae_ensemble=1.5, method="blend", n_test=40)
    add_version(uri, model, "demo.band_gap", test_mae_ensemble=0.3)
    models = all_models(uri)
    gap, modulus = overview_rows(models)
    assert (gap["champion"], gap["challenger"]["version"]) == (None, "1")
    assert (gap["challenger_has_lower_mae"], modulus["challenger_has_lower_mae"]) == (None, True)
    assert (modulus["champion"]["holdout_mae"], modulus["challenger"]["holdout_rows"]) == (2.0, 40)
    cells = {c.header: list(c.cells) for c in overview_table(models).columns}
    assert cells["champion"] == ["–", "v1 ml"]
    assert cells["challenger is"] == ["the first", "lower (-25.0%)"]
    assert history_lines(models[1]) == [
        "The alias 'champion' was moved to version 1 by hand; who and when is not known."
    ]
    assert [m.name for m in all_models(uri, "other")] == []
