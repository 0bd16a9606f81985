"""What models read of compositions: computed once for all that read the same rows, and never mixed up."""

from __future__ import annotations

import numpy as np
import pytest
from made_ensembles import FRACTIONS

from crossprop.features.magpie import physical_attributes
from crossprop.inference import compiled
from crossprop.inference.compiled import Recent, Source, represent
from crossprop.methods import Representation

ATTRIBUTES = Source(Representation.PHYSICAL_ATTRIBUTES, None, "")
COMBINED = Source(Representation.COMBINED, None, "")


class Doubling:
    """A source network that counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def outputs(self, features):
        self.calls += 1
        return 2 * features[:, :3]


@pytest.fixture
def counted(monkeypatch):
    """Rows whose attributes were computed; nothing is kept from other tests."""
    rows: list[int] = []

    def attributes(fractions):
        rows.append(len(fractions))
        return physical_attributes(fractions)

    monkeypatch.setattr(compiled, "_recent", Recent())
    monkeypatch.setattr(compiled, "physical_attributes", attributes)
    return rows


def test_models_that_read_the_same_rows_share_their_attributes(counted):
    (first,) = represent([ATTRIBUTES], FRACTIONS, 2)
    (second,) = represent([COMBINED], FRACTIONS.copy(), 1)
    assert counted == [len(FRACTIONS)]
    assert np.array_equal(first, physical_attributes(FRACTIONS).astype(np.float32))
    assert np.array_equal(second[:, 86:], first)


def test_other_rows_are_computed_anew(counted):
    changed = FRACTIONS[:5].copy()
    (before,) = represent([ATTRIBUTES], changed, 1)
    changed[0] = FRACTIONS[7]
    (after,) = represent([ATTRIBUTES], changed, 1)
    assert counted == [5, 5]
    assert np.array_equal(after[0], physical_attributes(FRACTIONS[7:8]).astype(np.float32)[0])
    assert not np.array_equal(before[0], after[0])


def test_source_networks_are_shared_by_the_name_of_their_file(counted):
    network = Doubling()
    one, other = (Source(Representation.ACTIVATIONS, network, name) for name in ("a.onnx", "b.onnx"))
    (got,) = represent([one], FRACTIONS, 1)
    represent([one], FRACTIONS, 1)
    assert network.calls == 1
    assert np.array_equal(got, 2 * FRACTIONS[:, :3].astype(np.float32))
    represent([other], FRACTIONS, 1)
    assert network.calls == 2
    assert not counted


def test_what_is_shared_cannot_be_written():
    (attributes,) = represent([ATTRIBUTES], FRACTIONS, 1)
    with pytest.raises(ValueError, match="read-only"):
        attributes[0] = 0


def test_what_is_kept_has_a_bound():
    recent = Recent(n_bytes=100)
    for number in range(50):
        recent.get("x", bytes([number]), lambda: np.zeros(40, np.uint8))
    assert recent._taken <= 100
    recent.get("x", bytes([49]), lambda: pytest.fail("the last ones are kept"))
    assert len(recent.get("large", b"", lambda: np.zeros(500, np.uint8))) == 500
    assert recent._taken <= 100
