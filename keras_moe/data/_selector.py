"""The base of what chooses rows of a pool."""

import dataclasses
import warnings
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_moe.data._answers import ask
from keras_moe.data._answers import check_labels
from keras_moe.data._answers import inputs_and_labels
from keras_moe.data._answers import log_probabilities
from keras_moe.data._answers import pool_size
from keras_moe.data._cut import Cut
from keras_moe.data._cut import check_budget
from keras_moe.data._cut import check_scores
from keras_moe.data._cut import rank
from keras_moe.data._draws import as_keys
from keras_moe.data._draws import check_round
from keras_moe.data._draws import draws
from keras_moe.data._selection import Selection
from keras_moe.types import Config


class Selector:
    """Chooses the rows of a pool that are worth a label, or an update.

    A subclass implements `scores`. Two kinds of them exist: those that draw
    (`is_drawn`) keep a row the likelier, the greater its score is; the others
    keep the greatest scores. `select` meets the budget exactly and never asks
    for more than a score for each row, so that any number of workers may find
    them.

    Draws are priority sampling: with u, a hash of a row's key, the seed and
    the round, the rows of the greatest `score / u` are kept. Selectors that
    weigh give each the inverse of how likely it was kept. Rows of score 0 are
    kept where there are too few others, and no sooner.

    Source of the draws: [Priority sampling, Duffield, Lund and Thorup,
    2007](https://arxiv.org/abs/cs/0509026).

    Attributes:
        num_models: how many models are asked.
        needs_labels: whether `scores` reads labels.
        is_drawn: whether rows are drawn, or those of the greatest scores kept.
        is_weighted: whether weights make the sample unbiased; else all are 1.
        is_row_wise: whether what a row is wanted for depends on it alone.

    Args:
        from_logits: whether models give logits, or probabilities.

    Example:

    >>> class Shortest(keras_moe.data.Selector):
    ...     def scores(self, answers, labels=None):
    ...         return 1.0 / (1.0 + answers[0].max(axis=1) ** 2)
    >>> model = lambda x: np.stack([x, 1.0 - x], axis=1)
    >>> pool = np.array([0.5, 0.9, 0.4, 0.1])
    >>> indices, weights = Shortest().select(model, pool, budget=2)
    >>> indices, weights
    (array([1, 3]), array([1., 1.]))
    """

    num_models = 1
    needs_labels = False
    is_drawn = False
    is_weighted = False
    is_row_wise = True

    def __init__(self, from_logits: bool = False):
        self.from_logits = bool(from_logits)

    def scores(
        self, answers: Sequence[np.ndarray], labels: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns how much each row is wanted, float64 `[n]`, at least 0.

        Args:
            answers: the log-probabilities of each model, float64
                `[n, classes]`.
            labels: int64 `[n]`, or `None`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `scores`."
        )

    def over_pool(self, scores: np.ndarray) -> np.ndarray:
        """Returns what scores come to among all rows that may be chosen.

        Args:
            scores: float64 `[n]`.
        """
        return scores

    def capped(self, weights: np.ndarray) -> np.ndarray:
        """Returns the weights to train with, of those without a bias."""
        return weights

    def probabilities(self, model: Any, data: Any) -> np.ndarray:
        """Returns how much each row of a pool is wanted.

        Args:
            model: a Keras model, or a function, from inputs to `[n, classes]`;
                two of them for a selector that compares models.
            data: inputs, `(inputs, labels)`, or a `tf.data.Dataset` of batches
                of either, always in the same order.

        Returns:
            float64 `[n]`, in [0, 1].

        Raises:
            ValueError: if models, outputs or labels are not as they must be.
        """
        return self.over_pool(self.raw_scores(model, data))

    def raw_scores(self, model: Any, data: Any) -> np.ndarray:
        inputs, labels = inputs_and_labels(data)
        if not self.num_models:
            return np.ones(pool_size(inputs))
        models = list(model) if isinstance(model, list | tuple) else [model]
        if len(models) != self.num_models:
            raise ValueError(
                f"`model` must be {self.num_models} for "
                f"{type(self).__name__}. Received: {len(models)}."
            )
        return self.scores_of([ask(each, inputs) for each in models], labels)

    def scores_of(
        self, outputs: Sequence[np.ndarray], labels: np.ndarray | None
    ) -> np.ndarray:
        """Returns checked scores of what models answered.

        Args:
            outputs: of each model, `[n, classes]`.
            labels: of the rows, or `None`.

        Raises:
            ValueError: as `probabilities`.
        """
        answers = [log_probabilities(o, self.from_logits) for o in outputs]
        if len(shapes := {each.shape for each in answers}) > 1:
            raise ValueError(
                "Models must give outputs of one shape. Received: "
                f"{sorted(shapes)}."
            )
        if self.needs_labels:
            labels = check_labels(labels, answers[0].shape)
        scores = np.asarray(self.scores(answers, labels), "float64")
        if scores.shape != answers[0].shape[:1]:
            raise ValueError(
                f"`scores` must be one for each of {len(answers[0])} rows. "
                f"Received: shape={scores.shape}."
            )
        check_scores(scores)
        return scores

    def select(
        self,
        model: Any,
        data: Any,
        budget: int,
        *,
        seed: int = 0,
        round: int = 0,
        keys: Iterable[object] | None = None,
        chosen: Sequence[int] | np.ndarray = (),
    ) -> Selection:
        """Chooses rows.

        Args:
            model: as for `probabilities`.
            data: as for `probabilities`.
            budget: how many.
            seed: of the draws.
            round: of the draws: each has others.
            keys: of the rows, for draws that do not depend on their order:
                texts, bytes or integers. Rows of the same key have the same
                draw. By default, the rows' numbers.
            chosen: rows that were chosen before, which are left out: their
                numbers, or a bool mask `[n]`.

        Returns:
            A `Selection`. Its weights have a mean of 1 over draws.

        Raises:
            ValueError: if the budget is not from 1 to the number of rows that
                are left, or an argument is not as it must be.
        """
        drawn = self.draw(
            self.raw_scores(model, data), budget, seed, round, keys, chosen
        )
        return dataclasses.replace(drawn, weights=self.capped(drawn.weights))

    def draw(
        self,
        scores: np.ndarray,
        budget: int,
        seed: int = 0,
        round: int = 0,
        keys: Iterable[object] | None = None,
        chosen: Sequence[int] | np.ndarray = (),
    ) -> Selection:
        """Chooses by scores, as `select` does, and caps no weight.

        Args:
            scores: float64 `[n]`, what `scores` returned.
            budget: as for `select`.
            seed: as for `select`.
            round: as for `select`.
            keys: as for `select`.
            chosen: as for `select`.

        Raises:
            ValueError: as `select`.
        """
        check_round(seed, round)
        named = as_keys(keys, len(scores))
        left = np.ones(len(scores), bool)
        left[_checked_rows(chosen, len(scores))] = False
        rows = np.flatnonzero(left)
        check_budget(budget, len(rows))
        u = draws((named[row] for row in rows), seed, round)
        wanted = self.over_pool(scores[rows])
        # Draws decide among equals, and then the place.
        order = np.lexsort((u, -(wanted / u if self.is_drawn else wanted)))
        kept, after = np.sort(order[:budget]), order[budget : budget + 1]
        topped_up = (wanted == 0.0)[kept]
        cut = Cut(
            int(budget),
            len(rows),
            int((wanted == 0.0).sum()),
            int(topped_up.sum()),
            rank(wanted[after[0]], u[after[0]], self.is_drawn)
            if len(after)
            else None,
        )
        if cut.topped_up:
            warn_of_starving(cut)
        weights = [cut.weight(wanted[row], self.is_weighted) for row in kept]
        return Selection(rows[kept], np.array(weights, "float64"), topped_up)

    def get_config(self) -> Config:
        """Returns the arguments."""
        return {"from_logits": self.from_logits}

    @classmethod
    def from_config(cls, config: Config) -> "Selector":
        """Rebuilds the selector from `get_config`."""
        return cls(**config)


def warn_of_starving(cut: Cut) -> None:
    """Warns of rows that were kept for want of others."""
    warnings.warn(
        f"Of {cut.budget} rows {cut.topped_up} were drawn uniformly: only "
        f"{cut.budget - cut.topped_up} of the pool's {cut.pool} have a score "
        "above 0.",
        stacklevel=4,
    )


def _checked_rows(chosen: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    rows = np.asarray(chosen)
    if rows.shape == (size,) and rows.dtype == bool:
        return np.flatnonzero(rows)
    # Nothing is of any type. Cast, a mask would be rows 0 and 1.
    if rows.size and rows.dtype.kind not in "iu":
        raise ValueError(
            f"`chosen` must be integers, rows of the pool, or a mask of its "
            f"{size} rows. Received: shape={rows.shape} of {rows.dtype}."
        )
    rows = rows.astype("int64").reshape(-1)
    if len(rows) and not (0 <= rows.min() and rows.max() < size):
        raise ValueError(
            f"`chosen` must be rows of the pool, in [0, {size}). Received: "
            f"{rows.min()} to {rows.max()}."
        )
    return rows
