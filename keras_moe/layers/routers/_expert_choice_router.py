"""Expert-choice routing."""

from keras import ops

from keras_moe.layers.routers._router import Router
from keras_moe.ops import RoutingPlan
from keras_moe.ops import expert_choice_routing
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_positive
from keras_moe.validation import check_size


@register
class ExpertChoiceRouter(Router):
    """Lets each expert take the tokens that it scores highest.

    Source: [Zhou et al., 2022](https://arxiv.org/abs/2202.09368). The load is
    even by construction. Which tokens are taken depends on the whole group,
    later tokens included: the router is refused in causal layers, and the
    result for a row does depend on its batch. With `group_size="sequence"` it
    depends on its own row alone, though still on how far that is padded: the
    capacity counts padding, so that shapes are static.

    Args:
        num_experts: number of experts; `None` takes the `SparseMoE`'s.
        capacity_factor: mean number of experts that take a token, c: an expert
            takes `c * tokens / num_experts`. 2 costs as much as top-2 routing.
        eval_capacity_factor: the same outside of training; `None` for
            `capacity_factor`.
        min_expert_capacity: least number of slots of an expert in a group.
        max_experts_per_token: most experts that may take one token, by the
            regularised linear program of `keras_moe.ops.capped_assignment`;
            `None` for no limit.
        softmax_over: `"experts"`, or `"tokens"` (mesh-tensorflow).
        normalization: `"none"`, or `"mean"` over the experts that took a token
            (mesh-tensorflow).
        entropy_weight: weight of the entropy in the linear program.
        num_iterations: iterations of the linear program.
        load_balancing_loss_weight: factor of `losses.load_balancing_loss`; 0
            by default, since the load is even anyway.
        **kwargs: see `keras_moe.layers.Router`, whose call arguments and
            errors hold, too.

    Example:

    >>> router = keras_moe.layers.ExpertChoiceRouter(num_experts=4)
    >>> plan = router(np.random.rand(1, 10, 8))
    >>> plan.token_index.shape  # 2 * 10 / 4 slots
    TensorShape([1, 4, 5])
    """

    is_causal = False

    def __init__(
        self,
        num_experts: int | None = None,
        capacity_factor: float = 2.0,
        eval_capacity_factor: float | None = None,
        min_expert_capacity: int = 1,
        max_experts_per_token: int | None = None,
        softmax_over: str = "experts",
        normalization: str = "none",
        entropy_weight: float = 0.001,
        num_iterations: int = 300,
        load_balancing_loss_weight: float = 0.0,
        **kwargs,
    ):
        super().__init__(
            num_experts,
            capacity_factor=capacity_factor,
            eval_capacity_factor=eval_capacity_factor,
            min_expert_capacity=min_expert_capacity,
            load_balancing_loss_weight=load_balancing_loss_weight,
            **kwargs,
        )
        if capacity_factor is None:
            raise ValueError(
                "`capacity_factor` must be a number: experts that choose need "
                "to know how many tokens to take. Received: "
                "capacity_factor=None."
            )
        check_size(
            max_experts_per_token=max_experts_per_token,
            num_iterations=num_iterations,
        )
        check_positive(entropy_weight=entropy_weight)
        check_choice(("experts", "tokens"), softmax_over=softmax_over)
        check_choice(("none", "mean"), normalization=normalization)
        self.max_experts_per_token = max_experts_per_token
        self.softmax_over = softmax_over
        self.normalization = normalization
        self.entropy_weight = entropy_weight
        self.num_iterations = num_iterations

    def expert_capacity(
        self, tokens_per_group: int | Tensor, training: bool | None = None
    ) -> int | Tensor | None:
        """Returns how many tokens an expert takes from a group."""
        if self.eval_capacity_factor is None:
            training = True  # there is one factor for both
        return super().expert_capacity(tokens_per_group, training=training)

    def route(
        self,
        logits: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan:
        """Returns the plan of expert-choice routing for float32 `logits`."""
        return expert_choice_routing(
            logits,
            self.expert_capacity(ops.shape(logits)[-2], training=training),
            padding_mask,
            max_experts_per_token=self.max_experts_per_token,
            softmax_over=self.softmax_over,
            normalization=self.normalization,
            entropy_weight=self.entropy_weight,
            num_iterations=self.num_iterations,
        )

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "max_experts_per_token": self.max_experts_per_token,
            "softmax_over": self.softmax_over,
            "normalization": self.normalization,
            "entropy_weight": self.entropy_weight,
            "num_iterations": self.num_iterations,
        }
