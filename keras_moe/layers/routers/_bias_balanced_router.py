"""Top-k routing balanced by a bias instead of a loss."""

from collections.abc import Callable

from keras import ops

from keras_moe.layers.routers._top_k_router import TopKRouter
from keras_moe.metrics import expert_counts
from keras_moe.ops import RoutingPlan
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_not_negative


@register
class BiasBalancedRouter(TopKRouter):
    """Keeps the load even without an auxiliary loss.

    A bias of each expert is added to the probabilities when experts are
    chosen, and only then: the weights of the outputs do not contain it. After
    every training batch the bias of an expert with more than the mean load
    falls by `bias_update_rate`, that of others rises. In evaluation it stays,
    and so it does while the router is frozen (`trainable = False`). Tokens
    that are not finite are no load.

    An update of several batches is one step of the bias, by the sum of their
    loads, where `keras_moe.training.Trainer(gradient_accumulation_steps=)`
    makes it. That of a Keras optimizer no layer sees: under it the bias moves
    with every batch.

    Source: [Wang et al., 2024](https://arxiv.org/abs/2408.15664), algorithm 1.

    Args:
        num_experts: number of experts; `None` takes the `SparseMoE`'s.
        bias_update_rate: step of the bias.
        load_balancing_loss_weight: factor of `losses.load_balancing_loss`; 0
            by default.
        **kwargs: see `keras_moe.layers.TopKRouter`.

    Raises:
        ValueError: if `bias_update_rate` is negative.

    Example:

    >>> router = keras_moe.layers.BiasBalancedRouter(num_experts=4)
    >>> plan = router(np.random.rand(1, 10, 8), training=True)
    >>> router.expert_bias.shape
    TensorShape([4])
    """

    def __init__(
        self,
        num_experts: int | None = None,
        bias_update_rate: float = 0.001,
        load_balancing_loss_weight: float = 0.0,
        **kwargs,
    ):
        super().__init__(
            num_experts,
            load_balancing_loss_weight=load_balancing_loss_weight,
            **kwargs,
        )
        check_not_negative(bias_update_rate=bias_update_rate)
        self.bias_update_rate = bias_update_rate
        # What becomes of a batch's load. `Trainer` sums those of an update.
        self.take_load: Callable[[Tensor], object] = self.move_bias

    def add_state(self, dim: int, num_experts: int) -> None:
        super().add_state(dim, num_experts)
        self.expert_bias = self.add_weight(
            name="expert_bias",
            shape=(num_experts,),
            initializer="zeros",
            trainable=False,
            # Each replica moves its bias against its own load; without the
            # mean they would drift apart.
            aggregation="mean",
        )

    def selection_bias(self) -> Tensor | None:
        """Returns the bias of the experts."""
        return ops.convert_to_tensor(self.expert_bias)

    def route(
        self,
        logits: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan:
        """Returns the plan; in training moves the bias against the load."""
        plan = super().route(logits, padding_mask, training=training)
        if training and self.trainable:
            self.take_load(expert_counts(plan, padding_mask))
        return plan

    def move_bias(self, load: Tensor) -> None:
        """Moves the bias a step against a load.

        Args:
            load: float32 `[experts]`, how many tokens asked for each expert.
        """
        lack = ops.sign(ops.mean(load) - load)
        self.expert_bias.assign_add(self.bias_update_rate * lack)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "bias_update_rate": self.bias_update_rate,
        }
