"""From files to clean tables, prepared targets and sources; references of elements that make two series one."""

import numpy as np
import pandas as pd
import pytest

from crossprop.data.cleaning import REPORT_COLUMNS, read_table
from crossprop.data.compositions import ELEMENTS, composition_keys, fraction_matrix
from crossprop.data.prepare import prepare_study, prepare_target
from crossprop.data.sources import fitted_differences, prepare_source
from crossprop.errors import DataError


def keys_of(*formulas):
    return set(composition_keys(fraction_matrix(formulas)))


def test_a_published_split_is_kept_row_by_row(tiny):
    data = prepare_target(tiny[0], "tiny_target", tiny[1])
    assert data.frame["formula"].tolist() == ["NaCl", "MgO", "Fe2O3", "KBr", "MoS2", "Mg2O2"]
    assert data.frame["split"].tolist() == ["train"] * 4 + ["test"] * 2
    assert data.frame["value"].tolist() == [1, 2, 3, 4, 5, 6]
    assert "1 training rows share" in " ".join(data.cleaning["reason"])


def test_composition_seen_in_a_target_never_reaches_source_training(build_catalog, tmp_path):
    own = {"first": "NaCl,1\nKBr,2\nMgO,3\nCaO,4\n", "second": "LiF,1\nLiCl,2\nBN,3\nMoS2,4\n"}
    tables = {key: {"roles": ["target"], "texts": {"all": f"formula,value\n{own[key]}"}} for key in own}
    source = "formula,value\nNa2Cl2,1\nLiF,2\nMo0.333333S0.666667,3\nOMg,4\nTiO2,5\nFeO,6\nZnO,7\n"
    catalog, raw = build_catalog(tables | {"s": {"roles": ["source"], "texts": {"all": source}}})
    prepare_study(catalog, list(own), ["s"], raw, tmp_path)
    assert set(pd.read_parquet(tmp_path / "s.parquet")["formula"]) == {"TiO2", "FeO", "ZnO"}
    report = pd.read_csv(tmp_path / "s.cleaning.csv", keep_default_na=False)
    assert "4 rows (4 compositions) belong to a target" in " ".join(report["reason"])
    written = prepare_study(catalog, ["first"], ["s"], raw, tmp_path / "other", excluded=["second"])
    assert set(pd.read_parquet(written["s"])["formula"]) == {"Na2Cl2", "OMg", "TiO2", "FeO", "ZnO"}
    assert set(written) == {"first", "s"}
    with pytest.raises(DataError, match="name 'second'"):
        prepare_study(catalog, ["first"], ["s"], raw, tmp_path, excluded=["SECOND"])


@pytest.mark.parametrize(("merge", "value"), [("lowest", 1.0), ("median", 3.0)])
def test_polymorphs_of_a_source_become_one_row(build_catalog, merge, value):
    text = "formula,value\nTiO2,5\nTi2O4,1\nO2Ti,3\nNaCl,7\nKCl,8\n"
    catalog, raw = build_catalog({"s": {"roles": ["source"], "merge": merge, "texts": {"all": text}}})
    data = prepare_source(catalog, "s", raw)
    assert data.frame.loc[data.frame["formula"] == "TiO2", "value"].tolist() == [value]
    told = f"2 rows repeat a composition; one row per composition ({merge} value)"
    assert told in set(data.cleaning["reason"])


def test_preparing_twice_writes_the_same_bytes(tiny, tmp_path):
    for name in ("a", "b"):
        prepare_study(tiny[0], ["tiny_target"], ["tiny_source"], tiny[1], tmp_path / name)
    first, second = (sorted((tmp_path / n).iterdir()) for n in ("a", "b"))
    ends = ("source.cleaning.csv", "source.parquet", "target.cleaning.csv", "target.parquet")
    assert [p.name for p in first] == [f"tiny_{end}" for end in ends]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_target_that_nothing_can_be_learnt_from_is_refused(build_catalog):
    for train, test, part in (
        ("formula,value\nNaCl,1\n", "formula,value\nKCl,1\n", "1 usable row"),
        ("formula,value\nNaCl,1\nKBr,1\nMgO,1\n", "formula,value\nKCl,2\n", "constant"),
    ):
        catalog, raw = build_catalog({"t": {"roles": ["target"], "texts": {"train": train, "test": test}}})
        with pytest.raises(DataError, match=part):
            prepare_target(catalog, "t", raw)


def test_values_beyond_the_limits_are_dropped_one_by_one(build_catalog):
    text = "formula,value\nNaCl,1\nKBr,2\nMgO,43.5\n"
    limits = {"low": -10, "high": 5}
    catalog, raw = build_catalog({"s": {"roles": ["source"], "limits": limits, "texts": {"all": text}}})
    data = prepare_source(catalog, "s", raw)
    assert set(data.frame["formula"]) == {"NaCl", "KBr"}
    dropped = data.cleaning[data.cleaning["action"] == "dropped"]
    assert dropped[["formula", "value"]].values.tolist() == [["MgO", "43.5"]]


def supplemented(build_catalog, relation, own, other, tolerance=0.1):
    supplement = {"relation": relation, "description": "x", "tolerance": tolerance, "texts": {"all": other}}
    editions = {"open": {"supplements": [supplement]}, "own": {}}
    return build_catalog({"s": {"roles": ["source"], "texts": {"all": own}, "editions": editions}})


def test_a_supplement_of_the_same_property_adds_only_new_compositions(build_catalog):
    own = "formula,value\nNaCl,1\nKBr,2\nMgO,3\n"
    other = "formula,value\nNa2Cl2,1.01\nMg2O2,3\nKBr,9\nCaO,4\nLiF,5\n"
    catalog, raw = supplemented(build_catalog, "same_property", own, other)
    data = prepare_source(catalog, "s", raw, keys_of("LiF"), edition="open")
    values = dict(zip(data.frame["formula"], data.frame["value"], strict=True))
    assert values == {"NaCl": 1, "KBr": 2, "MgO": 3, "CaO": 4}
    assert "3 compositions are known already" in " ".join(data.cleaning["reason"])
    assert "1 by more than 0.1" in " ".join(data.cleaning["reason"])
    assert len(prepare_source(catalog, "s", raw, edition="own").frame) == 3


def test_a_target_with_rounded_fractions_on_either_side_leaves_the_source(build_catalog):
    """0.1429 + 0.7143 + 0.1429 is 1.0001: such a spelling of AlFeF5 has another key."""
    rounded = "Al0.142900F0.714300Fe0.142900"
    own = f"formula,value\n{rounded},1\nAlTiO5,2\nNaCl,3\nKBr,4\n"
    other = "formula,value\nK0.500000Br0.500000,4\nNaCl,3\nAl2F10Fe2,1\nLiF,5\n"
    catalog, raw = supplemented(build_catalog, "same_property", own, other)
    hidden = keys_of("Al14.29Ti14.29O71.43")
    assert set(prepare_source(catalog, "s", raw, hidden, "own").frame["formula"]) == {rounded, "NaCl", "KBr"}
    hidden |= keys_of("AlFeF5")
    assert set(prepare_source(catalog, "s", raw, hidden, "open").frame["formula"]) == {"NaCl", "KBr", "LiF"}


def test_a_supplement_on_another_scale_is_refused(build_catalog):
    own, other = "formula,value\nNaCl,1\nKBr,2\nMgO,3\n", "formula,value\nNaCl,96\nKBr,193\nCaO,4\n"
    catalog, raw = supplemented(build_catalog, "same_property", own, other)
    with pytest.raises(DataError, match="another scale"):
        prepare_source(catalog, "s", raw, edition="open")


def test_implied_values_follow_from_elemental_references_without_the_targets_rows(build_catalog):
    rng = np.random.default_rng(0)
    amounts = rng.integers(1, 9, size=(300, 3))
    formulas = list(dict.fromkeys(f"Li{a}Na{b}K{c}" for a, b, c in amounts))
    fractions = fraction_matrix(formulas)
    x = fractions[:, [1, 8, 15]]
    formation = np.sin(5 * x[:, 0])
    energy = formation + x @ np.array([-1.9, -1.3, -1.1])
    n = len(formulas)
    target = formulas[0]

    def text(values):
        return "formula,value\n" + "".join(f"{f},{v!r}\n" for f, v in zip(formulas, values, strict=False))

    own = text(formation[: n - 20].tolist())
    # The excluded composition's energy is nonsense: it must not appear among the results.
    energy[0] = 1e3
    relation, other = "elemental_references", text(energy.tolist())
    catalog, raw = supplemented(build_catalog, relation, own, other, tolerance=0.01)
    frame = prepare_source(catalog, "s", raw, keys_of(target), edition="open").frame
    assert not set(frame["composition"]) & keys_of(target)
    keys = composition_keys(fractions)
    expected = pd.Series(formation, index=keys)
    assert len(frame) == len(set(keys)) - 1
    implied = frame.set_index("composition")["value"].loc[list(set(keys[n - 20 :]) - set(keys[: n - 20]))]
    np.testing.assert_allclose(implied, expected[implied.index], atol=1e-6)


def test_groups_are_found_by_their_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('formula,value,group\nNaCl,1,"p, 1"\n\nKCl,2,q\nMgO,3\n')
    with pytest.raises(DataError, match="1 row"):
        read_table(path, "formula", "value", "group")
    with pytest.raises(DataError, match="no column 'paper'"):
        read_table(path, "formula", "value", "paper")
    path.write_text('formula,value,group\nNaCl,1,"p, 1"\n\nKCl,2,q\n')
    assert read_table(path, "formula", "value", "group").rows["group"].tolist() == ["p, 1", "q"]


def test_references_and_the_correction_beside_oxygen_are_found_despite_outliers():
    H, LI, FE, O = (ELEMENTS.index(e) for e in ("H", "Li", "Fe", "O"))  # noqa: E741 oxygen
    rng = np.random.default_rng(0)
    fractions = np.zeros((400, 86))
    fractions[:, [H, LI, FE, O]] = rng.dirichlet(np.ones(4), 400)
    fractions[::2, O] = 0.0
    fractions /= fractions.sum(axis=1, keepdims=True)
    references = np.zeros(86)
    references[[H, LI, FE, O]] = [-3.4, -1.9, -8.2, -4.9]
    difference = fractions @ references + 2.2 * fractions[:, FE] * (fractions[:, O] > 0)
    difference[::20] += 5.0
    others = fraction_matrix(["Fe2O3", "Fe2Li", "NaH", "H", "Li", "Fe", "O"])
    (fe2o3, fe2li, unknown, *of_elements), residuals = fitted_differences(fractions, difference, others, ("Fe",), "O")
    np.testing.assert_allclose(of_elements, [-3.4, -1.9, -8.2, -4.9], atol=1e-3)
    assert (residuals <= 0.01).mean() == pytest.approx(0.95)
    assert fe2o3 == pytest.approx(0.4 * (-8.2 + 2.2) + 0.6 * -4.9, abs=1e-3)
    assert fe2li == pytest.approx((2 * -8.2 - 1.9) / 3, abs=1e-3)
    assert np.isnan(unknown)  # the shared rows hold no sodium


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "alloys.csv"
        path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
        return path

    return write


def many_good(bad, n=40):
    """A file of n good rows and the given bad ones below them."""
    return "formula,value\n" + "".join(f"Li{i}Na,{i}\n" for i in range(1, n + 1)) + bad


def test_rows_are_read_with_their_lines_keys_and_values(table):
    text = "\ufeffid,formula,value\r\n0, NaCl ,1.5\r\n1,Fe2O3,-2e-1\r\n2,NaN,3\r\n"
    clean = read_table(table(text), "formula", "value")
    assert clean.rows.to_dict("list") == {
        "line": [2, 3, 4],
        "formula": ["NaCl", "Fe2O3", "NaN"],  # the last is a sodium nitride
        "composition": ["Cl:0.5000 Na:0.5000", "Fe:0.4000 O:0.6000", "N:0.5000 Na:0.5000"],
        "value": [1.5, -0.2, 3.0],
    }
    assert clean.report.empty
    assert tuple(clean.report.columns) == REPORT_COLUMNS


def test_spreadsheet_dates_are_repaired_and_reported(table):
    clean = read_table(table(many_good("2-Feb,13.5\n3-Feb,13.4\n")), "formula", "value")
    assert clean.rows["formula"].tolist()[-2:] == ["FeB2", "FeB3"]
    assert clean.report[["line", "file", "formula", "value", "action"]].values.tolist() == [
        [42, "alloys.csv", "2-Feb", "13.5", "repaired"],
        [43, "alloys.csv", "3-Feb", "13.4", "repaired"],
    ]


def test_single_bad_rows_are_dropped_with_line_and_reason(table):
    for row, reason in (
        ("1-Mar,1", "date"),
        ("XeF2Zz,1", "no element"),
        (",1", "empty"),
        ("NaCl", "the value is missing"),
        ("NaCl,nan", "'nan' is no finite number"),
        ("NaCl,1e999", "no finite number"),
        ("NaCl,1_000", "no finite number"),
    ):
        clean = read_table(table(many_good(row + "\n")), "formula", "value")
        assert len(clean.rows) == 40
        assert clean.report[["line", "action"]].values.tolist() == [[42, "dropped"]]
        assert reason in clean.report["reason"][0]


def test_more_than_a_tenth_of_bad_rows_is_refused_with_examples(table):
    assert len(read_table(table(many_good("x,1\n" * 4, n=36)), "formula", "value").rows) == 36
    with pytest.raises(DataError, match=r"5 of 41 rows.*line 38.*correct the file"):
        read_table(table(many_good("x,1\n" * 5, n=36)), "formula", "value")


def test_repeated_formulas_stay_and_are_counted(table):
    clean = read_table(table("formula,value\nNaCl,1\nNaCl,2\nNaCl,1\nKCl,3\n"), "formula", "value")
    assert len(clean.rows) == 4
    assert clean.report["action"].tolist() == ["noted"]
    assert "2 rows repeat a formula of this file, 1 of them with the same value" in clean.report["reason"][0]


def test_what_is_no_such_table_is_refused(table):
    for text, part in (
        ("formula,value\n", "no rows below its header"),
        ("formula;value\nNaCl;1\n", "no column 'formula' and 'value'"),
        (b"formula,value\nNa\xff\xfeCl,1\n", "UTF-8"),
        ('formula,value\n"NaCl,1\n', "no CSV"),
    ):
        with pytest.raises(DataError, match=part):
            read_table(table(text), "formula", "value")
