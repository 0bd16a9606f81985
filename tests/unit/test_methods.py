"""The words about methods."""

from crossprop.methods import PAPER_METHODS, Method, unit_behind


def test_paper_has_eight_methods_each_with_its_side_in_the_notation():
    assert [str(method) for method in PAPER_METHODS] == [
        "base", "ml", "dl", "ml_featextr", "dl_featextr", "finetune", "modfinetune", "freezing",
    ]  # fmt: skip
    signs = {"base": "Base", "scratch": "SC:", "transfer": "TL:"}
    assert all(method.notation.startswith(signs[method.side]) for method in PAPER_METHODS)
    assert len({method.notation for method in Method}) == len(Method)


def test_a_pure_number_has_no_unit_behind_it():
    assert [unit_behind(unit) for unit in ("GPa", "1", "")] == [" GPa", "", ""]
    assert unit_behind("GPa", " ({})") == " (GPa)"
