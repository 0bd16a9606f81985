"""The grid: target × source × method × representation, each point with its identity and its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossprop.config import Params, Recipe
from crossprop.experiments.fingerprint import code_digest, digest
from crossprop.experiments.tuning import MethodSpace
from crossprop.methods import Family, Method, Representation, Side
from crossprop.training.device import gpu_is_visible

SCHEME = 2
"""Raised when stored cells of an earlier layout must not be read."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a study and all that its computation depends on.

    Attributes:
        id: Content hash of everything below, the data, the source network and the code.
        n_trials: Its share of its side's trials.
        seconds: Its share of its side's ceiling.
        folds: Folds of its cross-validation, should it be the best of its method.
        screening_rows: Most training rows of a screening fit; ``None`` for all.
        screening_steps: Most steps of a screening fit of a network; ``None`` for as many as the recipe has.
        together: Whether its folds are trained as one batched network.
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
    together: bool = False

    @property
    def label(self) -> str:
        """Short name within the target."""
        inner = self.source or (self.representation.short if self.representation else None)
        return f"{self.method}({inner})" if inner else str(self.method)

    @property
    def uses_activations(self) -> bool:
        """Whether its input is a layer of the source network."""
        return self.representation is Representation.ACTIVATIONS

    def seed_for(self, *parts: str | int) -> int:
        """Seed of one piece of the cell's work, below 2**32; independent of data and code."""
        key = [self.seed, self.target, self.source, str(self.method), str(self.representation), *parts]
        return int(digest(key)[:8], 16)

    def seed_for_target(self, *parts: str | int) -> int:
        """Seed that all cells of the target share: they are compared on the same rows."""
        return int(digest([self.seed, self.target, *parts])[:8], 16)


def enumerate_cells(
    params: Params, target: str, unit: str, target_digest: str, source_digests: Mapping[str, str]
) -> list[Cell]:
    """All cells of one target.

    Args:
        params: Configuration.
        target: Property key, one of the study's targets.
        unit: The property's unit.
        target_digest: Hash of the prepared target.
        source_digests: Hash of every source network's weights.

    Returns:
        Cells in the order of methods, then of representations or sources.
    """
    study = params.study
    rows = study.fidelity.rows if study.fidelity else None
    steps = study.fidelity.steps if study.fidelity else None
    cells = []
    for method in study.methods:
        for source, representation in study.points(method):
            recipe, space = _recipe(params, method), _space(params, method)
            n_trials = _share(params, method, source, representation)
            together = _together(params, recipe)
            facts: dict[str, Any] = {
                "study": study.name,
                "protocol": str(study.protocol),
                "target": target,
                "unit": unit,
                "source": source,
                "method": str(method),
                "representation": str(representation) if representation else None,
                "seed": study.seed,
                "n_trials": n_trials,
                "seconds": _seconds(params, method, n_trials),
                "folds": study.folds_of(target),
                "recipe": recipe.model_dump(mode="json") if recipe else None,
                "space": _space_facts(space),
                "backend": params.compute.backend if method.family is Family.NETWORK or source else None,
                "target_digest": target_digest,
                "source_digest": source_digests[source] if source else None,
                "screening": [rows, steps],
                "code": code_digest(),
                "scheme": SCHEME,
            }
            if together:  # the same numbers, but for the order of sums
                facts["together"] = True
            cells.append(
                Cell(
                    id=digest(facts)[:16],
                    study=study.name,
                    protocol=str(study.protocol),
                    target=target,
                    unit=unit,
                    source=source,
                    method=method,
                    representation=representation,
                    seed=study.seed,
                    n_trials=n_trials,
                    seconds=facts["seconds"],
                    folds=facts["folds"],
                    recipe=recipe,
                    space=space,
                    screening_rows=rows,
                    screening_steps=steps,
                    together=together,
                )
            )
    return cells


def _recipe(params: Params, method: Method) -> Recipe | None:
    if method.family is not Family.NETWORK:
        return None
    # Networks that start from random weights follow the scratch recipe, whatever they read.
    tuned = method in (Method.FINETUNE, Method.MODFINETUNE, Method.RESNET_FINETUNE)
    return params.study.transfer if tuned else params.study.scratch


def _together(params: Params, recipe: Recipe | None) -> bool:
    """Whether a network's folds are trained as one; early stopping and dropout need fits of their own."""
    wish = params.compute.together
    if recipe is None or wish == "never" or recipe.patience or recipe.dropout:
        return False
    return wish == "always" or gpu_is_visible()


def _space(params: Params, method: Method) -> MethodSpace | None:
    return None if method.side in (Side.BASE, Side.BLEND) else MethodSpace.of(method, params.search)


def _space_facts(space: MethodSpace | None) -> Any:
    if space is None:
        return None
    shared = {name: r.model_dump(mode="json") for name, r in space.shared.items()}
    algorithms = {
        name: {key: r.model_dump(mode="json") for key, r in own.items()}
        for name, own in space.algorithms.items()
    }
    return [
        shared,
        list(algorithms),
        algorithms,
        list(space.layers),
        space.default_layer,
        space.defaults_first,
    ]


def _trials_of(params: Params, family: Family) -> int:
    return params.study.budget.ml_trials if family is Family.REGRESSOR else params.study.budget.dl_trials


def _share(params: Params, method: Method, source: str | None, representation: Representation | None) -> int:
    """This cell's share of the trials that its side has for its family; earlier cells take the remainder."""
    if method.side in (Side.BASE, Side.BLEND):
        return 0
    siblings = [
        (m, *point)
        for m in params.study.methods
        if m.side is method.side and m.family is method.family
        for point in params.study.points(m)
    ]
    even, rest = divmod(_trials_of(params, method.family), len(siblings))
    return even + (siblings.index((method, source, representation)) < rest)


def _seconds(params: Params, method: Method, n_trials: int) -> float:
    """Share of the side's ceiling in proportion to the trials."""
    families = {m.family for m in params.study.methods if m.side is method.side}
    total = sum(_trials_of(params, family) for family in families & {Family.REGRESSOR, Family.NETWORK})
    return params.study.budget.seconds * n_trials / total if total else 0.0


def fold_name(fold: int) -> str:
    """Name of the piece that is a whole fold."""
    return f"fold_{fold:02d}"


def is_fold(piece: str) -> bool:
    """Whether a piece is a whole fold, as the cross-validation needs it."""
    return piece.startswith("fold_") and "." not in piece
