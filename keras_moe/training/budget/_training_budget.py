"""How long a training may take, and how its learning rate goes."""

import dataclasses
import math
from typing import Self

from keras_moe.validation import check_not_negative
from keras_moe.validation import check_positive
from keras_moe.validation import check_rate
from keras_moe.validation import check_size


@dataclasses.dataclass(frozen=True)
class TrainingBudget:
    """How long a training may take, and how its learning rate goes.

    A project's own training configuration derives from it.

    Attributes:
        steps: number of updates.
        min_steps: number of updates that are made however slow the machine is;
            at most `steps`. 1, if the budget alone counts.
        peak_learning_rate: highest learning rate, after the warm-up.
        warmup: share of the training in which the rate rises to its peak;
            after that it falls along a half cosine to zero.
        max_minutes: budget; where the machine is too slow for `steps`, the
            schedule is compressed to end here, down to `min_steps`. 0 for no
            limit.

    Raises:
        ValueError: if a value is outside its range.

    Example:

    >>> budget = keras_moe.training.TrainingBudget(steps=300, max_minutes=2.0)
    >>> budget.shortened(0.5).steps
    150
    """

    # Without this setting, pydantic ignores unknown names of a file.
    __pydantic_config__ = {"extra": "forbid"}

    steps: int = 3600
    min_steps: int = 1
    peak_learning_rate: float = 1.5e-3
    warmup: float = 0.05
    max_minutes: float = 8.0

    def __post_init__(self) -> None:
        check_size(steps=self.steps, min_steps=self.min_steps)
        check_positive(peak_learning_rate=self.peak_learning_rate)
        check_not_negative(max_minutes=self.max_minutes)
        check_rate(warmup=self.warmup)
        for name in ("peak_learning_rate", "max_minutes"):
            if math.isinf(getattr(self, name)):
                raise ValueError(
                    f"`{name}` must be finite. Received: {name}=inf."
                )
        if self.min_steps > self.steps:
            raise ValueError(
                "`min_steps` must be at most `steps`. Received: "
                f"min_steps={self.min_steps}, steps={self.steps}."
            )

    def shortened(self, share: float) -> Self:
        """Returns the same with a share of the steps and of the budget.

        Args:
            share: greater than 0, up to 1.
        """
        return dataclasses.replace(
            self,
            steps=max(1, round(share * self.steps)),
            min_steps=max(1, round(share * self.min_steps)),
            max_minutes=share * self.max_minutes,
        )
