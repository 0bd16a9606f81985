"""The grid: target × source × method × representation, each cell with its identity and its budget."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import TypeAdapter

from crossprop.config import Params, Recipe
from crossprop.experiments.fingerprint import code_digest, digest, package_versions
from crossprop.experiments.tuning import MethodSpace
from crossprop.methods import Family, Method, Representation, Side
from crossprop.training.device import precision_of

# Whose versions may change a number:
PACKAGES = ("matminer", "numpy", "onnxruntime", "optuna", "pymatgen", "scikit-learn", "scipy")
SCHEME = 3  # raised when stored cells of an earlier layout must not be read


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a study and all that its computation depends on.

    ``id`` is the content hash of everything below but the unit, of data, source network, code and packages.
    ``n_trials`` and ``seconds`` are its share of its side's budget; ``screening_rows`` and ``screening_steps`` the most
    of a screening fit, ``None`` for as many as there are. ``precision`` is that of a network while it learns.
    """

    id: str
    study: str
    protocol: str
    target: str
    unit: str
    source: str | None
    method: Method
    representation: Representation | None
    seed: int
    n_trials: int
    seconds: float
    folds: int
    recipe: Recipe | None
    space: MethodSpace | None
    screening_rows: int | None = None
    screening_steps: int | None = None
    precision: str = "float32"

    @property
    def label(self) -> str:
        """Short name within the target."""
        if self.method.side is Side.PLAIN:
            return self.method.notation
        inner = self.source or (self.representation.short if self.representation else None)
        return f"{self.method}({inner})" if inner else str(self.method)

    @property
    def needs_keras(self) -> bool:
        """Whether it fits a network; outputs of source networks are read without Keras."""
        return self.method.family is Family.NETWORK

    def seed_for(self, *parts: str | int) -> int:
        """Seed of one task of the cell, below 2**32; independent of data and code."""
        key = [self.seed, self.target, self.source, str(self.method), str(self.representation), *parts]
        return int(digest(key)[:8], 16)

    def seed_for_target(self, *parts: str | int) -> int:
        """Seed that all cells of the target share: they are compared on the same rows."""
        return int(digest([self.seed, self.target, *parts])[:8], 16)


_CELL = TypeAdapter(Cell)


def enumerate_cells(
    params: Params, target: str, unit: str, target_digest: str, source_digests: Mapping[str, str]
) -> list[Cell]:
    """All cells of one target, in the order of methods, then of representations or sources.

    ``target_digest`` is the hash of its prepared table, ``source_digests`` those of every source network's weights.
    """
    study, cells = params.study, []
    precision = precision_of(params.compute.precision)  # the driver's, whichever node fits
    networks = ("keras", params.compute.backend)
    for method in study.methods:
        recipe = None
        if method.family is Family.NETWORK:
            # Networks that start from random weights follow the scratch recipe, whatever they read.
            recipe = study.transfer if method.starts_from_source else study.scratch
        space = MethodSpace.of(method, params.search, recipe) if method.tuned else None
        for source, representation in study.points(method):
            n_trials, seconds, fidelity = 0, 0.0, None
            if method.tuned:
                n_trials, seconds = _budget(params, method, (source, representation))
                fidelity = study.fidelity
            cell = Cell(
                id="",
                study=study.name,
                protocol=str(study.protocol),
                target=target,
                unit=unit,
                source=source,
                method=method,
                representation=representation,
                seed=study.seed,
                n_trials=n_trials,
                seconds=seconds,
                folds=study.folds_of(target),
                recipe=recipe,
                space=space,
                screening_rows=fidelity.rows if fidelity else None,
                screening_steps=fidelity.steps if fidelity else None,
                precision=precision if method.family is Family.NETWORK else "float32",
            )
            depends_on = {
                **_CELL.dump_python(cell, mode="json", exclude={"id", "unit"}),
                # in which the defaults are tried and values are drawn
                "order": space and [*space.shared, *((name, *own) for name, own in space.algorithms.items())],
                "versions": package_versions(*PACKAGES, *(networks if cell.needs_keras else ())),
                "backend": params.compute.backend if cell.needs_keras else None,
                "target_digest": target_digest,
                "source_digest": source_digests[source] if source else None,
                "code": code_digest(),
                "scheme": SCHEME,
            }
            cells.append(replace(cell, id=digest(depends_on)[:16]))
    return cells


def _budget(params: Params, method: Method, point: tuple[str | None, Representation | None]) -> tuple[int, float]:
    """Trials and seconds of one cell: even shares of its side's, earlier cells take the remainder."""
    budget, side = params.study.budget, [m for m in params.study.methods if m.side is method.side]
    siblings = [(m, *p) for m in side if m.family is method.family for p in params.study.points(m)]
    even, rest = divmod(budget.trials(method.family), len(siblings))
    n_trials = even + (siblings.index((method, *point)) < rest)
    return n_trials, budget.seconds * n_trials / sum(budget.trials(family) for family in {m.family for m in side})


def fold_name(fold: int) -> str:
    """Name of a whole fold."""
    return f"fold_{fold:02d}"
