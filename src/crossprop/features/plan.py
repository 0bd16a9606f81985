"""Which matrices a study needs of which property."""

from __future__ import annotations

from crossprop.config import StudyConfig
from crossprop.vocabulary import Representation


def matrices_of(study: StudyConfig, name: str) -> tuple[Representation, ...]:
    """Matrices of one property that the methods of a study read.

    A target has both, since the methods beyond the paper read both whatever ``representations`` lists. A source
    has elemental fractions, and physical attributes beside them where the joint network learns it.
    """
    fractions, attributes = Representation.ELEMENTAL_FRACTIONS, Representation.PHYSICAL_ATTRIBUTES
    learnt_jointly = any(name in sources for sources in study.joint.values())
    return (fractions, attributes) if name in study.targets or learnt_jointly else (fractions,)
