"""Top-k routing."""

import warnings

import keras
from keras import ops

from keras_moe.layers.routers._router import Router
from keras_moe.ops import RoutingPlan
from keras_moe.ops import top_k_routing
from keras_moe.ops.routing._top_k_routing import NORMALIZATIONS
from keras_moe.ops.routing._top_k_routing import PRIORITIES
from keras_moe.ops.routing._top_k_routing import SECOND_EXPERT_POLICIES
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_positive
from keras_moe.validation import check_size


@register
class TopKRouter(Router):
    """Sends each token to its k most probable experts.

    Sources: [Lepikhin et al., 2020](https://arxiv.org/abs/2006.16668) (GShard,
    algorithm 1); [Du et al., 2021](https://arxiv.org/abs/2112.06905) (GLaM);
    [Zoph et al., 2022](https://arxiv.org/abs/2202.08906) (ST-MoE). The options
    are those of `keras_moe.ops.top_k_routing`. `capacity_factor` is per choice:
    an expert has `capacity_factor * k * tokens / num_experts` slots.

    Args:
        num_experts: number of experts; `None` takes the `SparseMoE`'s.
        num_selected_experts: experts for each token, k.
        normalization: `"before_drop"` (GShard), `"after_drop"` or `"none"`.
            With k = 1 the first two make the weight a constant 1, through
            which the router learns nothing from the task: take `"none"`, or
            `SwitchRouter`, unless that is what you want (upcycling). It warns.
        priority: `"choice_major"` (GShard), `"token_major"`,
            `"batch_prioritized"` (V-MoE) or `"gate_prioritized"`. The last two
            look at later tokens to decide who is dropped, and are refused in
            causal layers. With k > 1 `"choice_major"` lets a later token's
            first choice take the slot of an earlier one's second, in training
            or with an `eval_capacity_factor`: decoders are trained so
            nevertheless (GShard, GLaM); `"token_major"` never does.
        second_expert_policy: `"all"`, `"none"`, `"threshold"` or `"random"`
            (GShard), of all choices after the first. Random in training only:
            in evaluation all choices are made.
        second_expert_threshold: see `keras_moe.ops.top_k_routing`.
        num_balanced_choices: how many choices of a token the load-balancing
            loss counts: 1 for first choices alone (GShard, GLaM); `None` for
            all, so that second choices are balanced, too.
        **kwargs: see `keras_moe.layers.Router`, whose call arguments and
            errors hold, too.

    Raises:
        ValueError: if an option is unknown or a number out of its range.

    Example:

    >>> router = keras_moe.layers.TopKRouter(num_experts=4)
    >>> plan = router(np.random.rand(1, 10, 8))
    >>> plan.slot_index.shape
    TensorShape([1, 10, 2])
    """

    def __init__(
        self,
        num_experts: int | None = None,
        num_selected_experts: int = 2,
        normalization: str = "before_drop",
        priority: str = "choice_major",
        second_expert_policy: str = "all",
        second_expert_threshold: float = 0.2,
        num_balanced_choices: int | None = None,
        **kwargs,
    ):
        super().__init__(num_experts, **kwargs)
        check_size(
            num_selected_experts=num_selected_experts,
            num_balanced_choices=num_balanced_choices,
        )
        check_choice(NORMALIZATIONS, normalization=normalization)
        check_choice(PRIORITIES, priority=priority)
        check_choice(
            SECOND_EXPERT_POLICIES, second_expert_policy=second_expert_policy
        )
        check_positive(second_expert_threshold=second_expert_threshold)
        self.num_selected_experts = num_selected_experts
        self.normalization = normalization
        self.priority = priority
        self.second_expert_policy = second_expert_policy
        self.second_expert_threshold = second_expert_threshold
        self.num_balanced_choices = num_balanced_choices
        self.is_causal = priority in ("choice_major", "token_major")
        if second_expert_policy == "random":
            self.policy_seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape):
        if self.num_experts and self.num_selected_experts > self.num_experts:
            raise ValueError(
                "`num_selected_experts` must be at most the number of experts,"
                f" {self.num_experts}. Received: num_selected_experts="
                f"{self.num_selected_experts}."
            )
        if (
            self.num_selected_experts == 1
            and self.normalization != "none"
            and self.required_num_experts > 1
        ):
            warnings.warn(
                "A router that selects one expert and normalises its weight "
                "weighs every output by 1: it learns nothing from the task. "
                "Give it normalization='none', or use `SwitchRouter`. "
                f"Received: normalization={self.normalization!r}.",
                stacklevel=2,
            )
        super().build(input_shape)

    def route(
        self,
        logits: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan:
        """Returns the plan of top-k routing for float32 `logits`."""
        policy = self.second_expert_policy
        random = policy == "random"
        if random and not training:
            policy = "all"
        return top_k_routing(
            logits,
            self.num_selected_experts,
            self.expert_capacity(ops.shape(logits)[-2], training=training),
            padding_mask,
            normalization=self.normalization,
            priority=self.priority,
            second_expert_policy=policy,
            second_expert_threshold=self.second_expert_threshold,
            selection_bias=self.selection_bias(),
            seed=self.policy_seed_generator if random else None,
        )

    def selection_bias(self) -> Tensor | None:
        """Returns the bias `[experts]` by which experts are chosen; or `None`.

        A subclass may give one: it is added to the probabilities when experts
        are chosen, and does not enter the weights of outputs.
        """
        return None

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "num_selected_experts": self.num_selected_experts,
            "normalization": self.normalization,
            "priority": self.priority,
            "second_expert_policy": self.second_expert_policy,
            "second_expert_threshold": self.second_expert_threshold,
            "num_balanced_choices": self.num_balanced_choices,
        }
