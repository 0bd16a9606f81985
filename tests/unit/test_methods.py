"""The words about methods, and where the files of a study lie."""

from pathlib import Path

from crossprop.methods import PAPER_METHODS, Method
from crossprop.paths import StudyPaths


def test_paper_has_eight_methods_each_with_its_side_in_the_notation():
    assert [str(method) for method in PAPER_METHODS] == [
        "base", "ml", "dl", "ml_featextr", "dl_featextr", "finetune", "modfinetune", "freezing",
    ]  # fmt: skip
    signs = {"base": "Base", "scratch": "SC:", "transfer": "TL:"}
    assert all(method.notation.startswith(signs[method.side]) for method in PAPER_METHODS)
    assert len({method.notation for method in Method}) == len(Method)


def test_results_lie_in_the_folder_of_the_shard_if_there_are_shards(tiny_params):
    study = tiny_params(targets=["slme", "spillage"], shards={"a": ["spillage"], "b": ["slme"]}).study
    paths = StudyPaths.of(study, Path("there"))
    assert paths.results("slme") == Path("there/results/tiny/b/slme")
    assert paths.results("spillage") == Path("there/results/tiny/a/spillage")
    assert StudyPaths.of(tiny_params().study).results("slme") == Path("results/tiny/slme")
    assert len({paths, StudyPaths.of(study, Path("there"))}) == 1  # can be a key
