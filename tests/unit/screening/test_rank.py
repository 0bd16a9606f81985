"""Ranking in one pass: the same as with all rows at once; expected improvement against numerical integration."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from crossprop.errors import ScreeningError
from crossprop.screening.conditions import parse_expression
from crossprop.screening.pipeline import schema
from crossprop.screening.rank import Ranker, log_expected_improvement, pareto_front, system_of


@pytest.fixture
def properties(linear):
    return (linear("a", "Fe")[0], linear("b", "Co")[0])


@pytest.fixture
def table(properties):
    rng = np.random.default_rng(2)
    a, b = np.round(rng.normal(size=(2, 500)), 2)
    half = rng.uniform(0.5, 2, size=500)
    formulas = [f"Fe{i + 1}Co" for i in range(500)]
    columns = {"position": np.arange(500), "formula": formulas, "n_elements": [2] * 500}
    for name, value, width in (("a", a, half), ("b", b, 1.0)):
        columns |= {name: value, f"{name}_lower": value - width, f"{name}_upper": value + width}
        columns[f"{name}_in_domain"] = np.ones(500, dtype=bool)
    return pa.table(columns | {"note": [""] * 500}, schema=schema(properties))


def ranked(table, properties, kind, objectives, top=20, best=None, per_system=None):
    read = tuple((parse_expression(text, ["a", "b"], "number")[0], more) for text, more in objectives)
    request = SimpleNamespace(ranking=kind, top=top, best=best, per_system=per_system)
    return Ranker(request, read, properties).rank(table.to_batches(max_chunksize=17))


@pytest.mark.parametrize("more", [True, False])
def test_by_value_the_best_come_first_and_equals_by_position(table, properties, more):
    expected = table.to_pandas().sort_values(["a", "position"], ascending=[not more, True]).head(20)
    got = ranked(table, properties, "value", [("a", more)])
    assert got["position"].tolist() == expected["position"].tolist()
    assert got["rank"].tolist() == list(range(1, 21))


def test_by_a_quantity_that_is_computed(table, properties):
    got = ranked(table, properties, "value", [("abs(a - b) + Fe", False)], top=3)
    frame = table.to_pandas()
    share = np.arange(1, 501) / np.arange(2, 502)
    expected = (abs(frame["a"] - frame["b"]) + share).sort_values().head(3)
    assert got["position"].tolist() == expected.index.tolist()
    many = table.set_column(2, table.schema.field(2), pa.array([12] * 500, pa.int8()))
    assert ranked(many, properties, "value", [("n_elements * n_elements", True)]).iloc[0, -1] == 144
    last = ranked(table, properties, "value", [("log10(a)", True)], top=500)["log10(a)"]
    assert np.isnan(last.iloc[-1]), "what is no number comes last"
    assert got["abs(a - b) + Fe"].to_numpy() == pytest.approx(expected.to_numpy())
    written = pa.array(["Fe₂O₃", "FeO"])  # as a publication writes them
    few = table.slice(0, 2).set_column(1, "formula", written)
    assert ranked(few, properties, "value", [("Fe", True)])["formula"].tolist() == ["FeO", "Fe₂O₃"]


@pytest.mark.parametrize("more", [True, False])
def test_by_expected_improvement_a_wide_interval_may_win(table, properties, more):
    got = ranked(table, properties, "ei", [("a", more)], top=500, best=3.0 if more else -3.0)
    assert (np.diff(got["expected_improvement"]) <= 0).all()
    assert got["a"].tolist() != sorted(got["a"], reverse=more)
    width = got["a_upper"] - got["a_lower"]
    assert width.head(20).mean() > width.tail(20).mean()
    deviation = width / 2 / 1.644854  # of a normal distribution's central 90 %
    z = (got["a"] * (1 if more else -1) - 3.0) / deviation
    expected = deviation * (norm.pdf(z) + z * norm.cdf(z))
    assert got["expected_improvement"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-4, abs=1e-9)
    cut = table.set_column(4, "a_lower", pa.array(np.maximum(table["a_lower"].to_numpy(), -0.5)))
    again = ranked(cut, properties, "ei", [("a", more)], top=500, best=3.0 if more else -3.0)
    assert again["expected_improvement"].tolist() == got["expected_improvement"].tolist(), "a cut lower end"


def test_pareto_front_is_what_nothing_beats(table, properties):
    frame = table.to_pandas()
    points = np.column_stack([frame["a"], -frame["b"]])
    beaten = [((points >= p).all(axis=1) & (points > p).any(axis=1)).any() for p in points]
    got = ranked(table, properties, "pareto", [("a", True), ("b", False)], top=2)  # a front is whole
    assert sorted(got["position"]) == np.flatnonzero(~np.array(beaten)).tolist()
    assert (np.diff(got["a"]) <= 0).all()
    equal = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert pareto_front(equal).tolist() == [True, True, True, False, False]


def test_at_most_so_many_of_one_system(table, properties):
    assert system_of("Fe2O3") == system_of("O4Fe3") == "Fe-O"
    pairs = [(a, b) for a in ("N", "B", "O") for b in ("Fe", "Al", "Co")]
    formulas = [f"{a}{i + 1}{b}" for i in range(60) for a, b in pairs][:500]
    renamed = table.set_column(1, "formula", pa.array(formulas))
    got = ranked(renamed, properties, "value", [("a", True)], top=12, per_system=2)
    frame = renamed.to_pandas().sort_values(["a", "position"], ascending=[False, True])
    systems = frame["formula"].map(system_of)
    expected = frame[systems.groupby(systems).cumcount() < 2].head(12)
    assert got["position"].tolist() == expected["position"].tolist()


def test_improvement_needs_a_property_and_is_over_the_best_known_value(table, properties):
    with pytest.raises(ScreeningError, match="only a property"):
        ranked(table, properties, "ei", [("a + b", True)], best=1.0)
    for more, best in ((True, 100.0), (False, 0.0)):
        stated = ranked(table, properties, "ei", [("a", more)], best=best)
        assert ranked(table, properties, "ei", [("a", more)]).equals(stated)


@pytest.mark.parametrize("mean", [-3.0, 1.9, 2.0, 8.0])
@pytest.mark.parametrize("deviation", [0.1, 3.0])
def test_equals_the_integral_over_the_improvement(mean, deviation):
    best = 2.0
    end = max(best, mean) + 40 * deviation
    options = {"points": [max(best, mean)], "epsabs": 0, "epsrel": 1e-11, "limit": 500}
    integral, _ = quad(lambda y: (y - best) * norm.pdf(y, mean, deviation), best, end, **options)
    got = log_expected_improvement(np.array([mean]), np.array([deviation]), best)
    if integral > 1e-280:
        assert got[0] == pytest.approx(np.log(integral), rel=1e-8, abs=1e-8)
    else:
        assert got[0] < -600


def test_far_below_the_best_it_still_ranks():
    z = -np.array([1.0, 30.0, 40.0, 1e3, 1e5, 9.9e6, 1.01e7, 1e9])
    logs = log_expected_improvement(z, np.ones(len(z)), 0.0)
    assert np.isfinite(logs).all()
    assert (np.diff(logs) < 0).all()
    # leading terms of the asymptotic series: log phi(z) - 2 log|z| + log(1 - 3/z^2 + 15/z^4)
    expected = -(z**2) / 2 - np.log(2 * np.pi) / 2 - 2 * np.log(-z) + np.log1p(-3 / z**2 + 15 / z**4)
    assert logs[1:] == pytest.approx(expected[1:], rel=1e-6)
    certain = log_expected_improvement(np.array([5.0, 1.0]), np.zeros(2), 2.0)
    assert certain.tolist() == [pytest.approx(np.log(3)), -np.inf]
