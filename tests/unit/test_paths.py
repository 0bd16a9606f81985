"""Where the files of a study lie."""

from __future__ import annotations

from pathlib import Path

from crossprop.paths import StudyPaths


def test_results_of_a_sharded_study_lie_in_the_folder_of_the_shard(tiny_params):
    study = tiny_params(targets=["slme", "spillage"], shards={"a": ["spillage"], "b": ["slme"]}).study
    paths = StudyPaths.of(study, Path("there"))
    assert paths.results("slme") == Path("there/results/tiny/b/slme")
    assert paths.results("spillage") == Path("there/results/tiny/a/spillage")


def test_results_of_a_study_without_shards_lie_in_its_own_folder(tiny_params):
    paths = StudyPaths.of(tiny_params().study)
    assert paths == StudyPaths("tiny")
    assert paths.results("slme") == Path("results/tiny/slme")


def test_paths_of_a_study_can_be_a_key(tiny_params):
    study = tiny_params(shards={"a": ["slme"]}).study
    assert len({StudyPaths.of(study), StudyPaths.of(study)}) == 1
