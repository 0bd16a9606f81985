"""Several fits of one network shape as one batched network: the folds of a cell, or trials of the same shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crossprop.training.batched_job import FitJob, Member, Outcome
from crossprop.training.descent import EVALUATIONS

if TYPE_CHECKING:
    from crossprop.training.batched_steps import BatchedSteps

__all__ = ["FitJob", "Outcome", "fit_together", "worth_batching"]

CHUNK = 2048
"""Validation rows of each member that are evaluated at once."""

GPU_ROWS = 20_000
"""Up to so many training rows a fit is taken to be too small to fill a GPU by itself; an estimate, not measured."""


def worth_batching(n_rows: int, n_members: int, device_is_gpu: bool) -> bool:
    """Whether fits are faster together than one by one.

    Args:
        n_rows: Training rows of one fit.
        n_members: Fits that could be trained together.
        device_is_gpu: Whether an accelerator computes.

    Returns:
        Never on a CPU, where ElemNet gains nothing (docs/engine.md) and the cores are busy with one fit each; on a GPU
        for two fits or more on few rows.
    """
    return device_is_gpu and n_members > 1 and n_rows <= GPU_ROWS


def fit_together(
    jobs: Sequence[FitJob], *, jit: bool = True, precision: Literal["float32", "mixed"] = "float32"
) -> list[Outcome]:
    """Fit networks together, each on its own rows, in its own scale and with its own learning rate.

    Every member makes exactly the steps that it would make alone, on the same rows in the same order; jobs that differ
    in shape, epochs or steps an epoch are trained one group after the other. Batches may differ in length: the shorter
    ones are padded with rows of no weight. On the device lie the members' rows, and three times their weights.

    Args:
        jobs: What to fit.
        jit: Compile with XLA; without it only tests are faster.
        precision: ``mixed`` trains in bfloat16, for GPUs.

    Returns:
        For every job, in order, the fitted model and its history as of a single fit, or the error of a fit that
        diverged; the others are not touched by it. Each model has a network of its own.

    Raises:
        ConfigError: A recipe asks for early stopping or dropout, which single fits have.
        ShapeMismatchError: Features and values differ in length.
    """
    members = [Member(job, f"job {number} of {len(jobs)}") for number, job in enumerate(jobs, start=1)]
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, member in enumerate(members):
        groups[member.shape].append(place)
    outcomes: dict[int, Outcome] = {}
    for places in groups.values():
        fitted = _fit_group([members[place] for place in places], jit, precision)
        outcomes |= dict(zip(places, fitted, strict=True))
    return [outcomes[place] for place in range(len(jobs))]


def _fit_group(group: list[Member], jit: bool, precision: Literal["float32", "mixed"]) -> list[Outcome]:
    """Train members of one shape."""
    from keras import ops

    from crossprop.training.batched_steps import batched_steps, padded

    architecture, input_size, epochs, steps = group[0].shape
    program = batched_steps(architecture, input_size, jit, precision)
    state = program.start([member.weights(program.network) for member in group])
    length = padded(max(len(member.x) for member in group))
    data = (
        ops.convert_to_tensor(np.concatenate([_fill(member.x, length) for member in group])),
        ops.convert_to_tensor(np.concatenate([_fill(member.y, length) for member in group])),
    )
    batch = max(member.batch for member in group)
    shares = np.stack([_fill(np.full(m.batch, 1 / m.batch, np.float32), batch) for m in group])
    decays = np.array([member.recipe.weight_decay for member in group])
    every, done = max(1, epochs // EVALUATIONS), 0
    while done < epochs and any(member.failure is None for member in group):
        now = min(every, epochs - done)
        rows = np.empty((now * steps, len(group), batch), np.int32)
        for place, member in enumerate(group):
            order = np.concatenate([member.order() for _ in range(now)])
            rows[:, place, : member.batch] = order + place * length
            rows[:, place, member.batch :] = place * length
        first, last = done * steps, (done + now) * steps
        rates = np.array([member.rates(first, last) for member in group]).T
        state, losses = program.train(state, data, rows, shares, rates, decays, first)
        done += now
        outputs = _validate(program, state[0], group)
        for place, (member, output) in enumerate(zip(group, outputs, strict=True)):
            member.hear(done, losses[:, place].reshape(now, steps), output, _weights(state[0], place))
    return [
        member.outcome(program.new_network, _weights(state[0], place)) for place, member in enumerate(group)
    ]


def _validate(program: BatchedSteps, weights: list[Any], group: list[Member]) -> list[np.ndarray]:
    """Output of every member for its validation rows."""
    from crossprop.training.batched_steps import padded

    longest = max(len(member.x_val) for member in group)
    width = min(CHUNK, padded(longest))
    parts = []
    for start in range(0, longest, width):
        x = np.stack([_fill(member.x_val[start : start + width], width) for member in group])
        parts.append(program.predict(weights, x))
    outputs = np.concatenate(parts, axis=1)
    return [output[: len(member.x_val)] for output, member in zip(outputs, group, strict=True)]


def _weights(stacked: list[Any], place: int) -> Callable[[], list[np.ndarray]]:
    """Fetches the weights of one member from the device."""
    from keras import ops

    return lambda: [ops.convert_to_numpy(array[place]) for array in stacked]


def _fill(array: np.ndarray, length: int) -> np.ndarray:
    """The array with zeros behind it, up to a length."""
    return np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])
