"""What the data of the models say: compositions that are known already, and the range of known values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crossprop.errors import ScreeningError
from crossprop.screening.properties import PropertyModel
from crossprop.serving.known_values import KnownValues
from crossprop.serving.served import ServedModel

Ranges = dict[str, tuple[float, float]]


def known_compositions(
    properties: Iterable[PropertyModel], models: Mapping[str, ServedModel]
) -> frozenset[str]:
    """Keys of the compositions that stand in the data of any of the models, hold-outs included.

    Raises:
        ScreeningError: A model was saved without its data.
    """
    keys: set[str] = set()
    for model in properties:
        evidence = models[model.name].evidence
        if evidence is None:
            raise ScreeningError(
                f"The model of {model.name!r} ({model.model}) was saved without the data that it learnt from, so "
                "nobody can tell what is new. Make it again with this version of crossprop, or leave out --novel."
            )
        keys |= set(evidence["composition"])
    return frozenset(keys)


def value_ranges(properties: Iterable[PropertyModel], models: Mapping[str, ServedModel]) -> Ranges:
    """Least and greatest value in the data of every property whose model was saved with them, hold-outs included."""
    found: Ranges = {}
    for model in properties:
        if (known := KnownValues.of(models[model.name].evidence)) is not None:
            found[model.name] = (known.least, known.most)
    return found


def value_to_beat(name: str, more: bool, known: Ranges) -> float:
    """The best known value of a property.

    Raises:
        ScreeningError: The model was saved without its data.
    """
    if name not in known:
        raise ScreeningError(
            f"No value of {name!r} is known that an improvement could be measured from: its model was saved without "
            "its data, or it is no property of this screening. Give the value to beat with --best."
        )
    return known[name][1 if more else 0]
