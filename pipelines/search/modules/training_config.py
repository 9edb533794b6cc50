"""How long and how to train."""

import dataclasses

from keras_moe.training import TrainingBudget
from keras_moe.validation import check_seed
from keras_moe.validation import check_size


@dataclasses.dataclass(frozen=True)
class TrainingConfig(TrainingBudget):
    """How long and how to train.

    Attributes:
        batch_size: pairs of a gloss and its words of an update: each gloss has
            the words of all others as negatives.
        seed: seed of the weights and the batches.

    Raises:
        ValueError: if a value is outside its range.
    """

    steps: int = 400
    min_steps: int = 150
    peak_learning_rate: float = 3e-3
    max_minutes: float = 3.0
    batch_size: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(batch_size=self.batch_size)
        check_seed(self.seed)
