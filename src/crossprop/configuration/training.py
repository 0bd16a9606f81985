"""How networks are trained, what tuning may spend, and how much of it hopeless cells see."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossprop.configuration.section import Count, Name, Positive, Section, Share


class Recipe(Section):
    """How a network is trained: a fixed schedule, with early stopping as an option.

    Attributes:
        epochs: Passes over the training rows.
        batch_size: Training rows of one step (all of them where there are fewer).
        min_steps: Steps that a fit has at least: on few rows there are more epochs. 0 asks for none.
        min_batches: Batches that an epoch has at least: on few rows the batch is halved, down to 16 rows.
        learning_rate: Its greatest value over the schedule.
        weight_decay: Decoupled decay (AdamW); 0 is plain Adam.
        schedule: ``cosine`` falls to zero after the warm-up, ``constant`` stays.
        warmup_fraction: Share of the steps over which the rate rises linearly.
        dropout: Rate of the dropout layers; 0 (the default) leaves them out.
        patience: Epochs without a better validation MAE before stopping; ``null`` never stops early.
        restore_best: Return the weights of the epoch with the least validation MAE, not the last ones.
    """

    epochs: Count
    batch_size: Count
    min_steps: Annotated[int, Field(ge=0, strict=True)] = 0
    min_batches: Count = 1
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0, strict=True)] = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: Share = 0.1
    dropout: Share = 0.0
    patience: Count | None = None
    restore_best: Annotated[bool, Field(strict=True)] = False


class Budget(Section):
    """What one side, scratch or transfer, may spend on tuning one target.

    Both sides get the same.

    Attributes:
        ml_trials: Trials on regressors, shared evenly among the side's cells of that family.
        dl_trials: Trials on networks, shared in the same way.
        seconds: Most seconds that the side's tuning may take, summed over the workers.
    """

    ml_trials: Count
    dl_trials: Count
    seconds: Positive


class Fidelity(Section):
    """Successive halving: hopeless cells see few rows, few steps and few folds.

    Attributes:
        rows: Most training rows of a screening fit.
        steps: Most steps of a screening fit of a network.
        after_screening: Methods of each side and family (the paper's and ours apart) that are cross-validated.
        after_first_fold: Methods of each side (the paper's and ours apart) that go on after the first fold.
        margin: Share by which a method may be behind the best of those on the first fold and still go on.
    """

    rows: Annotated[int, Field(ge=50, strict=True)]
    steps: Count
    after_screening: Count
    after_first_fold: Count
    margin: Positive


class LearningCurve(Section):
    """Refits of the best scratch and the best transfer cell on shares of the training rows.

    Attributes:
        targets: Targets that get a learning curve.
        shares: Shares of the training rows, below 1; the whole is known anyway.
    """

    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    shares: Annotated[tuple[Annotated[float, Field(gt=0, lt=1, strict=True)], ...], Field(min_length=1)]
