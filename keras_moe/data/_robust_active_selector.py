"""Rows worth asking a teacher that is sometimes wrong."""

from collections.abc import Sequence

import numpy as np

from keras_moe.data._margin_selector import hesitation
from keras_moe.data._selector import Selector
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.validation import check_size


@register
class RobustActiveSelector(Selector):
    """RAD: draws rows for a teacher's labels, some of which are wrong.

    A label is worth the gain g, 1 minus the student's margin, unless an
    adversary, who may spoil `num_adversarial` labels, spoils it. The draw that
    is best in the worst case makes what each row of a set S contributes equal:
    `q = (1 / g) / sum over S of 1 / g`, where S are the greatest gains, as many
    as make `(|S| - num_adversarial) / sum over S of 1 / g` greatest. So rows of
    S are those that `MarginSelector` would keep, and the easier ones among
    them are likelier.

    All weights are 1, and the sample is no picture of the pool.

    Source: [Robust Active Distillation, Baykal et al.,
    2023](https://arxiv.org/abs/2210.01213); the closed form is derived from
    the game there.

    Args:
        num_adversarial: how many labels of the pool may be wrong, at least 1;
            such as the teacher's share of errors times the pool's size.
        from_logits: whether the model gives logits, or probabilities.

    Raises:
        ValueError: if `num_adversarial` is not positive.

    Example:

    >>> model = lambda x: np.stack([x, 1.0 - x], axis=1)
    >>> pool = np.array([0.6, 0.75, 0.99, 1.0])
    >>> selector = keras_moe.data.RobustActiveSelector(num_adversarial=1)
    >>> selector.probabilities(model, pool).round(2)
    array([0.38, 0.62, 0.  , 0.  ])
    """

    is_drawn = True
    is_row_wise = False

    def __init__(self, num_adversarial: int, from_logits: bool = False):
        check_size(num_adversarial=num_adversarial)
        super().__init__(from_logits)
        self.num_adversarial = num_adversarial

    def scores(
        self, answers: Sequence[np.ndarray], labels: np.ndarray | None = None
    ) -> np.ndarray:
        return hesitation(answers[0])

    def over_pool(self, scores: np.ndarray) -> np.ndarray:
        gains = -np.sort(-scores[scores > 0.0])
        if not len(gains):
            return scores
        costs = np.cumsum(1.0 / gains)
        sizes = np.arange(1, len(gains) + 1)
        worth = (sizes - self.num_adversarial) / costs
        # Where the adversary may spoil every row, no draw is better than
        # another.
        size = int(worth.argmax()) if worth.max() > 0 else len(gains) - 1
        inside = scores >= gains[size]
        q = np.where(inside, 1.0 / np.where(inside, scores, 1.0), 0.0)
        return q / q.sum()

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_adversarial": self.num_adversarial,
        }
