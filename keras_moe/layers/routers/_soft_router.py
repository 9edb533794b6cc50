"""Soft mixture-of-experts routing."""

from keras import ops

from keras_moe.layers.routers._router import Router
from keras_moe.ops import RoutingPlan
from keras_moe.ops import SoftRoutingPlan
from keras_moe.ops import soft_routing
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_size


@register
class SoftRouter(Router):
    """Mixes the tokens of a sequence into slots, and the slots into tokens.

    Source: [Puigcerver et al., 2023](https://arxiv.org/abs/2308.00951),
    sections 2.1 and 2.3: scores are products of normalised tokens and
    normalised slot parameters, times a learnt scale. Nothing is dropped and
    there is no loss to balance. A slot sees all tokens of its group, so the
    router is refused in causal layers; only `dispatch="einsum"` can carry its
    plan out, which `"auto"` chooses.

    Args:
        num_experts: number of experts; `None` takes the `SparseMoE`'s.
        slots_per_expert: slots of each expert, whatever the number of tokens.
        group_size: by default each sequence by itself: the result for a row
            then does not depend on its batch, though each token's does on the
            rest of its row. See `keras_moe.layers.Router`.
        kernel_initializer: initialiser of the slot parameters.
        **kwargs: `jitter_noise`, `seed`, `name` of `keras_moe.layers.Router`.

    Example:

    >>> router = keras_moe.layers.SoftRouter(num_experts=4, slots_per_expert=2)
    >>> plan = router(np.random.rand(1, 10, 8))
    >>> plan.dispatch_weight.shape
    TensorShape([1, 10, 4, 2])
    """

    is_causal = False

    def __init__(
        self,
        num_experts: int | None = None,
        slots_per_expert: int = 1,
        group_size: int | str | None = "sequence",
        jitter_noise: float = 0.0,
        load_balancing_loss_weight: float = 0.0,
        router_z_loss_weight: float = 0.0,
        **kwargs,
    ):
        super().__init__(
            num_experts,
            group_size=group_size,
            jitter_noise=jitter_noise,
            load_balancing_loss_weight=load_balancing_loss_weight,
            router_z_loss_weight=router_z_loss_weight,
            **kwargs,
        )
        check_size(slots_per_expert=slots_per_expert)
        if load_balancing_loss_weight or router_z_loss_weight:
            raise ValueError(
                "`load_balancing_loss_weight` and `router_z_loss_weight` must "
                "be 0: soft routing has no such loss. Received: "
                f"{load_balancing_loss_weight} and {router_z_loss_weight}."
            )
        self.slots_per_expert = slots_per_expert

    def add_state(self, dim: int, num_experts: int) -> None:
        self.kernel = self.add_weight(
            name="kernel",
            shape=(dim, num_experts, self.slots_per_expert),
            initializer=self.kernel_initializer,
        )
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")

    def logits(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Returns the float32 scores `[groups, tokens, experts, slots]`."""
        inputs = _normalised(self.jittered(inputs, training), axis=-1)
        slots = self.scale * _normalised(self.kernel, axis=0)
        g = "bg"[-(len(inputs.shape) - 2) :]
        return ops.einsum(f"{g}sd,dec->{g}sec", inputs, slots)

    def route(
        self,
        logits: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> SoftRoutingPlan:
        """Returns the plan of soft routing for float32 `logits`."""
        return soft_routing(logits, padding_mask)

    def record(
        self,
        plan: RoutingPlan | SoftRoutingPlan,
        padding_mask: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> None:
        """Updates the metrics."""
        super().record(plan, padding_mask)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "slots_per_expert": self.slots_per_expert,
        }


def _normalised(x: Tensor, axis: int) -> Tensor:
    x = ops.convert_to_tensor(x)
    squared = ops.sum(ops.square(x), axis=axis, keepdims=True)
    # Padding is zero: without the maximum its gradient would be NaN.
    return x * ops.rsqrt(ops.maximum(squared, 1e-12))
