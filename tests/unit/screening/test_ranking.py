"""Ranking: in one pass, the same as with all rows at once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from crossprop.errors import ScreeningError
from crossprop.screening.conditions import read_objectives
from crossprop.screening.pipeline import schema
from crossprop.screening.rank import Ranker, pareto_front, system_of


@pytest.fixture
def properties(linear):
    return (linear("a", "Fe")[0], linear("b", "Co")[0])


@pytest.fixture
def table(properties):
    rng = np.random.default_rng(2)
    a, b = np.round(rng.normal(size=500), 2), np.round(rng.normal(size=500), 2)
    half = rng.uniform(0.5, 2, size=500)
    columns = {
        "position": np.arange(500),
        "formula": [f"Fe{i + 1}Co" for i in range(500)],
        "n_elements": np.full(500, 2, np.int8),
        "a": a,
        "a_lower": a - half,
        "a_upper": a + half,
        "a_in_domain": np.ones(500, dtype=bool),
        "b": b,
        "b_lower": b - 1,
        "b_upper": b + 1,
        "b_in_domain": np.ones(500, dtype=bool),
        "note": [""] * 500,
    }
    return pa.table(columns, schema=schema(properties))


def ranked(table, properties, kind, objectives, top=20, best=None):
    read = read_objectives(objectives, ["a", "b"])
    return Ranker(kind, read, properties, top, best).rank(table.to_batches(max_chunksize=17))


@pytest.mark.parametrize("more", [True, False])
def test_by_value_the_best_come_first_and_equals_by_position(table, properties, more):
    frame = table.to_pandas()
    expected = frame.sort_values(["a", "position"], ascending=[not more, True]).head(20)
    got = ranked(table, properties, "value", [("a", more)])
    assert got["position"].tolist() == expected["position"].tolist()
    assert got["rank"].tolist() == list(range(1, 21))


def test_by_a_quantity_that_is_computed(table, properties):
    got = ranked(table, properties, "value", [("abs(a - b) + Fe", False)], top=3)
    frame = table.to_pandas()
    share = np.arange(1, 501) / np.arange(2, 502)
    expected = (abs(frame["a"] - frame["b"]) + share).sort_values().head(3)
    assert got["position"].tolist() == expected.index.tolist()
    assert got["abs(a - b) + Fe"].to_numpy() == pytest.approx(expected.to_numpy())


@pytest.mark.parametrize("more", [True, False])
def test_by_expected_improvement_a_wide_interval_may_win(table, properties, more):
    got = ranked(table, properties, "ei", [("a", more)], top=500, best=3.0 if more else -3.0)
    assert (np.diff(got["expected_improvement"]) <= 0).all()
    assert got["a"].tolist() != sorted(got["a"], reverse=more)
    width = got["a_upper"] - got["a_lower"]
    assert width.head(20).mean() > width.tail(20).mean()


def test_pareto_front_is_what_nothing_beats(table, properties):
    frame = table.to_pandas()
    points = np.column_stack([frame["a"], -frame["b"]])
    beaten = [((points >= p).all(axis=1) & (points > p).any(axis=1)).any() for p in points]
    got = ranked(table, properties, "pareto", [("a", True), ("b", False)], top=500)
    assert sorted(got["position"]) == np.flatnonzero(~np.array(beaten)).tolist()
    assert (np.diff(got["a"]) <= 0).all()


def test_equal_points_share_the_front():
    points = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert pareto_front(points).tolist() == [True, True, True, False, False]


def test_at_most_so_many_of_one_system(table, properties):
    formulas = [f"{a}{i + 1}{b}" for i in range(50) for a, b in zip("NNNNNBBCCO", "ABCDEFGHIJ", strict=True)]
    symbols = {"A": "Fe", "B": "Al", "D": "Co", "E": "Ni", "G": "Cu", "J": "Zn"}
    formulas = [f[:-1] + symbols.get(f[-1], f[-1]) for f in formulas]
    renamed = table.set_column(1, "formula", pa.array(formulas))
    read = read_objectives([("a", True)], ["a", "b"])
    got = Ranker("value", read, properties, 12, per_system=2).rank(renamed.to_batches(max_chunksize=17))
    frame = renamed.to_pandas().sort_values(["a", "position"], ascending=[False, True])
    systems = frame["formula"].map(system_of)
    expected = frame[systems.groupby(systems).cumcount() < 2].head(12)
    assert got["position"].tolist() == expected["position"].tolist()
    assert got["formula"].map(system_of).value_counts().max() == 2


def test_system_is_the_elements_alone():
    assert system_of("Fe2O3") == system_of("O4Fe3") == "Fe-O"
    assert system_of("Co2FeAl") == "Al-Co-Fe"


def test_what_is_no_number_comes_last(table, properties):
    got = ranked(table, properties, "value", [("log10(a)", True)], top=500)
    assert np.isnan(got["log10(a)"].to_numpy()[-1])
    assert not np.isnan(got["log10(a)"].to_numpy()[:100]).any()


def test_improvement_needs_a_property_and_a_value_to_beat(table, properties):
    with pytest.raises(ScreeningError, match="only a property"):
        ranked(table, properties, "ei", [("a + b", True)], best=1.0)
    with pytest.raises(ScreeningError, match="--best"):
        ranked(table, properties, "ei", [("a", True)])


def test_nothing_kept_ranks_to_an_empty_table(table, properties):
    frame = ranked(table.slice(0, 0), properties, "value", [("a", True)])
    assert not len(frame)
    assert frame.columns.tolist() == ["rank", *table.column_names], "a reader of top.csv needs its header"


def test_formulas_may_be_written_as_in_a_publication(table, properties):
    few = table.slice(0, 2).set_column(1, "formula", pa.array(["Fe₂O₃", "FeO"]))
    frame = ranked(few, properties, "value", [("Fe", True)])
    assert frame["formula"].tolist() == ["FeO", "Fe₂O₃"]
