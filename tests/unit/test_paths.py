"""Where the files of a study lie."""

from __future__ import annotations

from pathlib import Path

from crossprop.paths import StudyPaths


def test_results_lie_in_the_folder_of_the_shard_if_there_are_shards(tiny_params):
    study = tiny_params(targets=["slme", "spillage"], shards={"a": ["spillage"], "b": ["slme"]}).study
    paths = StudyPaths.of(study, Path("there"))
    assert paths.results("slme") == Path("there/results/tiny/b/slme")
    assert paths.results("spillage") == Path("there/results/tiny/a/spillage")
    assert StudyPaths.of(tiny_params().study).results("slme") == Path("results/tiny/slme")
    assert len({paths, StudyPaths.of(study, Path("there"))}) == 1  # can be a key
