"""Routing by a fixed table of token ids."""

import random
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_moe.layers.routers._fixed_router import FixedRouter
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_size


@register
class HashRouter(FixedRouter):
    """Sends each token to the expert that a table gives for its id.

    A baseline without a learnt router, balanced as far as the vocabulary is.

    Source: [Roller et al., 2021](https://arxiv.org/abs/2106.04426). The layer
    must be called with `token_ids`.

    Args:
        num_experts: number of experts; `None` takes the `SparseMoE`'s.
        vocabulary_size: number of token ids; others are taken modulo it.
        table: the expert of each id; by default drawn at random such that all
            experts have equally many ids. It is saved with the weights.
        seed: seed of that table.
        **kwargs: `capacity_factor`, `group_size` and the like of
            `keras_moe.layers.Router`.

    Raises:
        ValueError: if `table` does not hold an expert for each id, or the
            router is called without ids.

    Example:

    >>> router = keras_moe.layers.HashRouter(2, vocabulary_size=100, seed=0)
    >>> ids = np.array([[7, 8, 7]])
    >>> plan = router(np.random.rand(1, 3, 8), token_ids=ids)
    >>> expert = plan.expert_index.numpy()[0, :, 0]
    >>> bool(expert[0] == expert[2])
    True
    """

    def __init__(
        self,
        num_experts: int | None = None,
        vocabulary_size: int = 32128,
        table: Sequence[int] | None = None,
        **kwargs,
    ):
        super().__init__(num_experts, **kwargs)
        check_size(vocabulary_size=vocabulary_size)
        self.vocabulary_size = vocabulary_size
        self.given_table = None if table is None else [int(e) for e in table]

    def add_state(self, dim: int, num_experts: int) -> None:
        if self.given_table is None:
            even = np.arange(self.vocabulary_size) % num_experts
            seed = self.seed
            if seed is None:  # `keras.utils.set_random_seed` seeds this, too
                seed = random.randrange(2**31)
            table = np.random.default_rng(seed).permutation(even)
        else:
            table = np.asarray(self.given_table)
        fits = table.shape == (self.vocabulary_size,)
        if not fits or table.min() < 0 or table.max() >= num_experts:
            raise ValueError(
                "`table` must hold the number of an expert, below "
                f"{num_experts}, for each of {self.vocabulary_size} ids. "
                f"Received: {table.size} numbers."
            )
        self.table = self.add_weight(
            name="table",
            shape=(self.vocabulary_size,),
            dtype="int32",
            initializer=lambda shape, dtype: ops.cast(table, dtype),
            trainable=False,
        )

    def assign(self, inputs: Tensor, token_ids: Tensor | None) -> Tensor:
        """Returns int32 `[groups, tokens]`, the expert of each id."""
        if token_ids is None:
            raise ValueError(
                "`token_ids` must be given to a layer with a HashRouter: "
                "layer(inputs, token_ids=ids). Received: token_ids=None."
            )
        ids = ops.mod(ops.cast(token_ids, "int32"), self.vocabulary_size)
        return ops.take(self.table, ids, axis=0)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "table": self.given_table,
        }
