"""Routing by locality-sensitive hashing."""

import keras
from keras import ops

from keras_moe.backend import index_of_greatest
from keras_moe.layers.routers._fixed_router import FixedRouter
from keras_moe.serialization import register
from keras_moe.types import Tensor


@register
class LocalityHashRouter(FixedRouter):
    """Sends tokens that point the same way to the same expert.

    Each expert has a fixed random direction; a token goes to the one nearest
    in angle. A baseline without a learnt router that needs no token ids.

    Source: spherical hashing as in [Andoni et al., 2015](
    https://arxiv.org/abs/1509.02897), section 2.

    Args:
        num_experts: number of experts; `None` takes the `SparseMoE`'s.
        **kwargs: `capacity_factor`, `group_size`, `seed` and the like of
            `keras_moe.layers.Router`.

    Example:

    >>> router = keras_moe.layers.LocalityHashRouter(num_experts=4, seed=0)
    >>> plan = router(np.random.rand(1, 10, 8))
    >>> plan.expert_index.shape
    TensorShape([1, 10, 1])
    """

    def add_state(self, dim: int, num_experts: int) -> None:
        self.directions = self.add_weight(
            name="directions",
            shape=(dim, num_experts),
            initializer=keras.initializers.RandomNormal(1.0, seed=self.seed),
            trainable=False,
        )

    def assign(self, inputs: Tensor, token_ids: Tensor | None) -> Tensor:
        """Returns int32 `[groups, tokens]`, the nearest direction."""
        directions = ops.convert_to_tensor(self.directions)
        directions = directions / ops.norm(directions, axis=0, keepdims=True)
        near = ops.matmul(ops.cast(inputs, "float32"), directions)
        # -0.0 is as near as 0.0.
        return index_of_greatest(ops.where(near == 0.0, 0.0, near))
