"""Rows drawn by how much can be learned from them, and weighed back."""

from collections.abc import Sequence

import numpy as np

from keras_moe.data._entropy_selector import normalized_entropy
from keras_moe.data._entropy_selector import surprise
from keras_moe.data._selector import Selector
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.validation import check_choice
from keras_moe.validation import check_rate

MODES = ("disagreement", "entropy")


@register
class ImportanceSelector(Selector):
    """IWeS: draws rows by importance; weights make the sample unbiased.

    `"disagreement"` needs labels and two models, trained alike from different
    first weights: `p = |H_f - H_g|`, with `H = -P(y|x) log2 P(y|x)` of the true
    class. `"entropy"` needs one model and no label: the entropy over its
    greatest value.

    The paper draws with replacement until the budget is spent. Here rows are
    drawn by priority sampling: the budget is met exactly, no row comes twice,
    and the scale of probabilities makes no difference. Without a cap, the mean
    of `weight * loss` over the sample is, on average over draws, that of the
    loss over the pool (but for rows of probability 0, which are never drawn
    unless all others are). The average may hide in draws that hardly ever
    come: two models may all but agree on a row that costs much. Give a
    `min_probability` where there is no cap.

    Source: [IWeS, Citovsky et al., 2023](https://arxiv.org/abs/2301.12052).

    Args:
        mode: `"disagreement"` or `"entropy"`.
        weight_cap: the greatest weight, at least 1; `None` for no cap. A cap
            trades a bias for less variance. 1 is what a row of a uniform
            sample weighs.
        from_logits: whether models give logits, or probabilities.
        min_probability: the least probability of a row, in [0, 1). It bounds
            weights as a cap does, and without a bias; the paper has none.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> f = lambda x: np.stack([x, 1.0 - x], axis=1)
    >>> g = lambda x: np.full((len(x), 2), 0.5)
    >>> pool, labels = np.array([0.1, 0.5, 0.9, 0.6]), np.array([0, 1, 0, 1])
    >>> selector = keras_moe.data.ImportanceSelector("disagreement")
    >>> selector.probabilities((f, g), (pool, labels)).round(3)
    array([0.168, 0.   , 0.363, 0.029])
    >>> selector = keras_moe.data.ImportanceSelector("entropy")
    >>> indices, weights = selector.select(f, pool, budget=2)
    >>> len(indices), len(weights)
    (2, 2)
    """

    is_drawn = True
    is_weighted = True

    def __init__(
        self,
        mode: str = "disagreement",
        weight_cap: float | None = 10.0,
        from_logits: bool = False,
        min_probability: float = 0.0,
    ):
        check_choice(MODES, mode=mode)
        check_rate(min_probability=min_probability)
        if weight_cap is not None and not weight_cap >= 1.0:
            raise ValueError(
                "`weight_cap` must be at least 1, what a row of a uniform "
                f"sample weighs. Received: weight_cap={weight_cap}."
            )
        super().__init__(from_logits)
        self.mode = mode
        self.weight_cap = weight_cap
        self.min_probability = min_probability
        self.needs_labels = mode == "disagreement"
        self.num_models = 2 if self.needs_labels else 1

    def scores(
        self, answers: Sequence[np.ndarray], labels: np.ndarray | None = None
    ) -> np.ndarray:
        return np.maximum(self._scores(answers, labels), self.min_probability)

    def _scores(
        self, answers: Sequence[np.ndarray], labels: np.ndarray | None
    ) -> np.ndarray:
        if labels is None or not self.needs_labels:
            return normalized_entropy(answers[0])
        f, g = (
            np.take_along_axis(each, np.expand_dims(labels, 1), 1)[:, 0]
            for each in answers
        )
        return np.abs(surprise(f) - surprise(g)) / np.log(2.0)

    def capped(self, weights: np.ndarray) -> np.ndarray:
        return np.minimum(weights, self.weight_cap or np.inf)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "mode": self.mode,
            "weight_cap": self.weight_cap,
            "min_probability": self.min_probability,
        }
