"""The words about methods."""

from crossprop.methods import PAPER_METHODS, Method


def test_paper_has_eight_methods_each_with_its_side_in_the_notation():
    assert [str(method) for method in PAPER_METHODS] == [
        "base", "ml", "dl", "ml_featextr", "dl_featextr", "finetune", "modfinetune", "freezing",
    ]  # fmt: skip
    signs = {"base": "Base", "scratch": "SC:", "transfer": "TL:"}
    assert all(method.notation.startswith(signs[method.side]) for method in PAPER_METHODS)
    assert len({method.notation for method in Method}) == len(Method)
