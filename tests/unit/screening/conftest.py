"""Models for screenings that answer at once, in memory."""

import pytest
from saved_shares import LinearEnsemble, served_share

from crossprop.data.compositions import ELEMENTS
from crossprop.screening.properties import PropertyModel


@pytest.fixture
def linear():
    """Makes a property of this name whose value is 100 times the share of an element."""

    def make(name: str, element: str, data: tuple[str, ...] = (), seen: tuple[str, ...] = ELEMENTS):
        served = served_share(LinearEnsemble(element, seen), data or (element, "H"))
        return PropertyModel(name, f"/{name}", name, "", element, "GPa", 0.9, name).with_data_of(served), served

    return make
