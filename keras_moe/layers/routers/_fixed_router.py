"""The base of routers without weights to learn."""

from keras import ops

from keras_moe.backend import refuse_recomputation
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers.routers._router import Router
from keras_moe.ops import RoutingPlan
from keras_moe.ops import fixed_routing
from keras_moe.ops.routing._broken_rows import mark_broken
from keras_moe.ops.routing._broken_rows import split_tokens
from keras_moe.types import Tensor


class FixedRouter(Router):
    """Sends each token where `assign` says, with weight 1.

    There is nothing to balance and nothing to jitter.
    """

    def __init__(self, num_experts: int | None = None, **kwargs):
        for name in (
            "jitter_noise",
            "load_balancing_loss_weight",
            "router_z_loss_weight",
        ):
            if kwargs.setdefault(name, 0.0):
                raise ValueError(
                    f"`{name}` must be 0: {type(self).__name__} learns "
                    f"nothing. Received: {name}={kwargs[name]}."
                )
        super().__init__(num_experts, **kwargs)

    def call(
        self,
        inputs: Tensor,
        padding_mask: Tensor | None = None,
        token_ids: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan:
        check_float(inputs=inputs)
        if training:
            refuse_recomputation(self)
        real, broken = split_tokens(inputs, padding_mask)
        expert_index = self.assign(inputs, token_ids)
        plan = fixed_routing(
            ops.expand_dims(expert_index, -1),
            self.required_num_experts,
            self.expert_capacity(ops.shape(inputs)[-2], training=training),
            real[..., 0],
        )
        marked = mark_broken(plan.probabilities, broken)
        plan = plan._replace(probabilities=marked)
        self.record(plan, padding_mask)
        return plan

    def assign(self, inputs: Tensor, token_ids: Tensor | None) -> Tensor:
        """Returns int32 `[groups, tokens]`, the expert of each token."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `assign`."
        )
