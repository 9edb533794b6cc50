"""How long and how to train, without importing TensorFlow."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long and how to train.

    Attributes:
        steps: number of updates.
        batch_size: word and pronunciation pairs of an update.
        peak_learning_rate: highest learning rate, after the warm-up.
        warmup: share of the training in which the rate rises to its peak;
            after that it falls along a half cosine to zero.
        max_minutes: budget; where the machine is too slow for `steps`, the
            schedule is compressed to end here. 0 for no limit.
        label_smoothing: see `keras_moe.losses.token_crossentropy`.
        weight_decay: decoupled weight decay.
        seed: seed of the batches.
    """

    # Without this setting, pydantic ignores unknown names of a file.
    __pydantic_config__ = {"extra": "forbid"}

    steps: int = 3600
    batch_size: int = 256
    peak_learning_rate: float = 1.5e-3
    warmup: float = 0.05
    max_minutes: float = 8.0
    label_smoothing: float = 0.05
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "peak_learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"`{name}` must be positive. Received: "
                    f"{name}={getattr(self, name)!r}."
                )

    def shortened(self, share: float) -> "TrainingConfig":
        """Returns the same with a share of the steps and of the budget.

        Args:
            share: greater than 0, up to 1.
        """
        return dataclasses.replace(
            self,
            steps=max(1, round(share * self.steps)),
            max_minutes=share * self.max_minutes,
        )
