"""Which matrices are computed of which property."""

from __future__ import annotations

import pytest

from crossprop.features.matrices import matrices_of
from crossprop.methods import Representation

FRACTIONS, ATTRIBUTES = Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES


@pytest.fixture
def study(tiny_params):
    """Two sources; the joint network learns one of them."""
    return tiny_params(
        sources=["formation_energy", "band_gap"],
        methods=["base", "ml"],
        joint={"both": ["band_gap"]},
        joint_pretrain={"epochs": 1, "batch_size": 8, "learning_rate": 0.001},
    ).study


def test_target_has_both_matrices_whatever_the_paper_methods_read(study):
    assert study.representations == (FRACTIONS,)
    assert matrices_of(study, "slme") == (FRACTIONS, ATTRIBUTES)


def test_source_has_attributes_only_where_the_joint_network_learns_it(study):
    assert matrices_of(study, "band_gap") == (FRACTIONS, ATTRIBUTES)
    assert matrices_of(study, "formation_energy") == (FRACTIONS,)
