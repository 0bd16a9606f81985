"""Physical attributes: matminer's featurizers and ours on the same real formulas, in one run, on one core.

    OMP_NUM_THREADS=1 python benchmarks/physical_attributes.py --rows 2000

Formulas: the transport data set that matminer installs with itself (Ricci et al. 2017), a seeded draw.
"""

from __future__ import annotations

import argparse
import os
import tarfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402  (threads are pinned first)
import pandas as pd  # noqa: E402

from crossprop.data import compositions  # noqa: E402
from crossprop.data.compositions import fraction_matrix  # noqa: E402
from crossprop.features.magpie import ATTRIBUTE_NAMES, physical_attributes  # noqa: E402
from crossprop.methods import DEFAULT_SEED  # noqa: E402


def transport_formulas(rows: int) -> list[str]:
    """Draw distinct formulas of the embedded data set, those of the 86 elements only."""
    import matminer

    from crossprop.errors import FormulaError

    archive = Path(matminer.__file__).parent / "utils/data_files/mp_transport/transport_database.tar.xz"
    with tarfile.open(archive) as tar:
        member = next(m for m in tar if m.isfile() and m.name.endswith(".csv"))
        formulas = pd.read_csv(tar.extractfile(member), keep_default_na=False)["pretty_formula"].unique()
    drawn: list[str] = []
    for formula in np.random.default_rng(DEFAULT_SEED).permutation(formulas):
        try:
            fraction_matrix([formula])
        except FormulaError:
            continue
        drawn.append(str(formula))
        if len(drawn) == rows:
            break
    return drawn


def matminer_attributes(formulas: list[str]) -> np.ndarray:
    """The 145 attributes by matminer's own featurizers, shape (n, 145)."""
    from matminer.featurizers.base import MultipleFeaturizer
    from matminer.featurizers.composition import ElementProperty, IonProperty, Stoichiometry, ValenceOrbital
    from pymatgen.core import Composition

    featurizer = MultipleFeaturizer(
        [
            Stoichiometry(),
            ElementProperty.from_preset("magpie", impute_nan=False),
            ValenceOrbital(props=["avg"], impute_nan=False),
            IonProperty(fast=True, impute_nan=False),
        ]
    )
    featurizer.set_n_jobs(1)
    frame = pd.DataFrame({"composition": [Composition(formula) for formula in formulas]})
    frame = featurizer.featurize_dataframe(frame, "composition", pbar=False)
    assert tuple(frame.columns[1:]) == ATTRIBUTE_NAMES, "matminer names or orders its attributes differently"
    return frame.iloc[:, 1:].to_numpy(dtype=np.float64)


def main() -> None:
    """Time both sides and print rates, ratio and largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="formulas that both sides compute")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of ours; the median counts")
    arguments = parser.parse_args()

    formulas = transport_formulas(arguments.rows)
    matminer_attributes(formulas[:20])  # imports and tables are loaded before either clock runs
    physical_attributes(fraction_matrix(formulas[:20]))

    start = time.perf_counter()
    theirs = matminer_attributes(formulas)  # Composition objects included: both sides start from text
    their_seconds = time.perf_counter() - start

    parsing, computing = [], []
    for _ in range(arguments.repeats):
        compositions._parse.cache_clear()  # every repeat reads its formulas anew, as matminer's side does
        start = time.perf_counter()
        fractions = fraction_matrix(formulas)
        parsed = time.perf_counter()
        ours = physical_attributes(fractions)
        computing.append(time.perf_counter() - parsed)
        parsing.append(parsed - start)
    parse_seconds, our_seconds = float(np.median(parsing)), float(np.median(computing))

    n, difference = len(formulas), np.abs(theirs - ours)
    whole = parse_seconds + our_seconds
    worst = np.unravel_index(difference.argmax(), difference.shape)
    print(f"formulas                    {n:>12,}")
    print(f"matminer, from formulas     {n / their_seconds:>12,.0f} compositions/s")
    for start_from, seconds in (("fractions", our_seconds), ("formulas ", whole)):
        rate, ratio = n / seconds, their_seconds / seconds
        print(f"crossprop, from {start_from}   {rate:>12,.0f} compositions/s   x {ratio:,.0f}")
    culprit = f"{ATTRIBUTE_NAMES[worst[1]]}, {formulas[worst[0]]}"
    print(f"largest difference          {difference[worst]:>12.2e} ({culprit})")
    relative = difference / np.maximum(np.abs(theirs), 1.0)
    print(f"largest relative difference {relative.max():>12.2e}")


if __name__ == "__main__":
    main()
