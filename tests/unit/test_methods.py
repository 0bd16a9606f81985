"""The words about methods: the paper's eight, and the extension methods beside them."""

from __future__ import annotations

import pytest

from crossprop.methods import PAPER_METHODS, Architecture, Family, Method, Side

EXTENSIONS = [
    Method.PLAIN_BASELINE, Method.PLAIN_MEDIAN, Method.BOOST, Method.BOOST_SOURCES, Method.RESNET,
    Method.RESNET_FINETUNE, Method.BLEND,
]  # fmt: skip


def test_paper_has_eight_methods_and_the_others_are_extensions():
    assert [str(method) for method in PAPER_METHODS] == [
        "base", "ml", "dl", "ml_featextr", "dl_featextr", "finetune", "modfinetune", "freezing",
    ]  # fmt: skip
    assert [method for method in Method if method.extension] == EXTENSIONS
    assert [*PAPER_METHODS, *EXTENSIONS] == list(Method)


@pytest.mark.parametrize(
    ("method", "side", "family", "architecture", "joint"),
    [
        (Method.BASE, Side.BASE, Family.BASE, None, False),
        (Method.ML, Side.SCRATCH, Family.REGRESSOR, None, False),
        (Method.DL, Side.SCRATCH, Family.NETWORK, Architecture.ELEMNET, False),
        (Method.ML_FEATEXTR, Side.TRANSFER, Family.REGRESSOR, None, False),
        (Method.DL_FEATEXTR, Side.TRANSFER, Family.NETWORK, Architecture.ELEMNET, False),
        (Method.FINETUNE, Side.TRANSFER, Family.NETWORK, Architecture.ELEMNET, False),
        (Method.MODFINETUNE, Side.TRANSFER, Family.NETWORK, Architecture.ELEMNET, False),
        (Method.FREEZING, Side.TRANSFER, Family.NETWORK, Architecture.ELEMNET, False),
        (Method.PLAIN_BASELINE, Side.PLAIN, Family.REGRESSOR, None, False),
        (Method.PLAIN_MEDIAN, Side.PLAIN, Family.REGRESSOR, None, False),
        (Method.BOOST, Side.SCRATCH, Family.REGRESSOR, None, False),
        (Method.BOOST_SOURCES, Side.TRANSFER, Family.REGRESSOR, None, True),
        (Method.RESNET, Side.SCRATCH, Family.NETWORK, Architecture.RESNET, False),
        (Method.RESNET_FINETUNE, Side.TRANSFER, Family.NETWORK, Architecture.RESNET, True),
        (Method.BLEND, Side.BLEND, Family.BLEND, None, False),
    ],
)
def test_method_stands_where_it_belongs(method, side, family, architecture, joint):
    assert (method.side, method.family, method.architecture, method.uses_joint) == (
        side, family, architecture, joint,
    )  # fmt: skip


def test_every_method_has_a_notation_of_its_own():
    notations = {method.notation for method in Method}
    assert len(notations) == len(Method)
    assert all(
        n.startswith(("SC:", "TL:")) for n in notations - {"Base", "Blend", "plain baseline", "plain median"}
    )
