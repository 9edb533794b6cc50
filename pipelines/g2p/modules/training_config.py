"""How long and how to train."""

import dataclasses
import math

from keras_moe.training import TrainingBudget
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_rate
from keras_moe.validation import check_seed
from keras_moe.validation import check_size


@dataclasses.dataclass(frozen=True)
class TrainingConfig(TrainingBudget):
    """How long and how to train.

    Attributes:
        batch_size: word and pronunciation pairs of an update.
        label_smoothing: see `keras_moe.losses.token_crossentropy`.
        weight_decay: decoupled weight decay.
        seed: seed of the batches.

    Raises:
        ValueError: if a value is outside its range.
    """

    batch_size: int = 256
    label_smoothing: float = 0.05
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size(batch_size=self.batch_size)
        check_not_negative(weight_decay=self.weight_decay)
        check_rate(label_smoothing=self.label_smoothing)
        check_seed(self.seed)
        if math.isinf(self.weight_decay):
            raise ValueError(
                "`weight_decay` must be finite. Received: weight_decay=inf."
            )
