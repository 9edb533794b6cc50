"""Top-1 routing."""

from keras import ops

from keras_moe.layers.routers._router import Router
from keras_moe.ops import RoutingPlan
from keras_moe.ops import top_k_routing
from keras_moe.serialization import register
from keras_moe.types import Tensor


@register
class SwitchRouter(Router):
    """Sends each token to its one most probable expert.

    Source: [Fedus et al., 2021](https://arxiv.org/abs/2101.03961), section 2.
    The output of the expert is weighted by its probability, which is what lets
    the router learn. Tokens beyond an expert's capacity are dropped in order
    of position: their output is exactly zero and the block's residual carries
    them.

    For arguments, call arguments and errors see `keras_moe.layers.Router`.

    Example:

    >>> router = keras_moe.layers.SwitchRouter(num_experts=4)
    >>> plan = router(np.random.rand(1, 10, 8))
    >>> plan.probabilities.shape
    TensorShape([1, 10, 4])
    """

    def route(
        self,
        logits: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan:
        """Returns the plan of top-1 routing for float32 `logits`."""
        tokens = ops.shape(logits)[-2]
        capacity = self.expert_capacity(tokens, training=training)
        return top_k_routing(logits, 1, capacity, padding_mask)
