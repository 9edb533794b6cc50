"""The base of all routers."""

import math

import keras
from keras import ops

from keras_moe.backend import records_are_kept
from keras_moe.backend import refuse_recomputation
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers.routers._router_metrics import RouterMetrics
from keras_moe.losses import load_balancing_loss
from keras_moe.losses import router_z_loss
from keras_moe.ops import RoutingPlan
from keras_moe.ops import SoftRoutingPlan
from keras_moe.ops import expert_capacity
from keras_moe.ops._short_sequences import apply_dense
from keras_moe.ops.routing._broken_rows import broken_rows
from keras_moe.ops.routing._broken_rows import mark_broken
from keras_moe.ops.routing._broken_rows import split_tokens
from keras_moe.ops.routing._capacity import ROUNDINGS
from keras_moe.ops.routing._spread_groups import as_spread
from keras_moe.ops.routing._spread_groups import draw_uniform
from keras_moe.types import Config
from keras_moe.types import InitializerLike
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_positive
from keras_moe.validation import check_rate
from keras_moe.validation import check_size

# Limit, in bytes, of a group's one-hot arrays with `group_size="auto"`.
_ONE_HOT_BYTES = 2**26


class Router(RouterMetrics):
    """Scores tokens against experts and plans which token goes where.

    Subclasses implement `route`. The base gives them logits in float32 under
    every dtype policy, input jitter, capacity, auxiliary losses and metrics.

    Args:
        num_experts: number of experts; `None` takes the number of the
            `SparseMoE` that uses the router.
        capacity_factor: slack of an expert's capacity in training, over an
            even load. `None` is dropless.
        eval_capacity_factor: the same outside of training. The default,
            dropless, makes the answer for a token independent of the rest of
            the batch.
        min_expert_capacity: least number of slots of an expert in a group.
        capacity_rounding: `"truncate"`, `"nearest"` or `"ceil"`.
        group_size: tokens that route together. `None` for the whole batch;
            `"sequence"` for each row of the batch; `"auto"` for equal groups
            as large as one-hot arrays of 64 MiB allow, however many experts
            there are; or a number, the last group filled up with padding. The
            number of tokens need not be divisible by anything.
        jitter_noise: in training the router (and the router alone) sees its
            input multiplied by uniform noise from `[1 - jitter_noise,
            1 + jitter_noise]`, drawn anew for each element.
        load_balancing_loss_weight: factor of `losses.load_balancing_loss`.
        balance_across_replicas: balance the whole batch over all replicas of
            `tf.distribute` instead of each group (arXiv:2501.11873).
        router_z_loss_weight: factor of `losses.router_z_loss`.
        kernel_initializer: initialiser of the router's kernel.
        seed: seed of the jitter.
        report_metrics: whether the layer's metrics are among the model's, and
            so in each line of its logs. They are measured in either case:
            see `trackers`. On JAX none are: Keras's loops there lose them.

    Call arguments:
        inputs: `[groups, tokens, dim]`.
        padding_mask: bool `[groups, tokens]`, false for padding.
        token_ids: ids of the tokens, for routers that look at them.
        training: whether to jitter and to use the training capacity.

    Returns:
        A `keras_moe.ops.RoutingPlan`.

    Raises:
        ValueError: if an argument is out of its range.

    Attributes:
        is_causal: whether later tokens do not change the routing of earlier
            ones, but for the priority of GShard (see `priority` of
            `TopKRouter`). `SparseMoE(causal=True)` refuses other routers.
        trackers: name to running mean of each figure of `routing_statistics`,
            and of the two losses before their weights.
        expert_load: `keras_moe.metrics.ExpertLoad` of the layer.

    Example:

    >>> class PairRouter(keras_moe.layers.Router):
    ...     num_selected_experts = 2
    ...     def route(self, logits, padding_mask=None, training=None):
    ...         capacity = self.expert_capacity(
    ...             keras.ops.shape(logits)[-2], training=training
    ...         )
    ...         return keras_moe.ops.top_k_routing(
    ...             logits, 2, capacity, padding_mask
    ...         )
    >>> plan = PairRouter(num_experts=4)(np.random.rand(1, 10, 8))
    >>> plan.probabilities.shape
    TensorShape([1, 10, 4])
    """

    is_causal = True
    num_selected_experts = 1
    num_balanced_choices: int | None = None  # that the balance loss counts

    def __init__(
        self,
        num_experts: int | None = None,
        capacity_factor: float | None = 1.25,
        eval_capacity_factor: float | None = None,
        min_expert_capacity: int = 4,
        capacity_rounding: str = "ceil",
        group_size: int | str | None = None,
        jitter_noise: float = 0.01,
        load_balancing_loss_weight: float = 0.01,
        balance_across_replicas: bool = False,
        router_z_loss_weight: float = 0.001,
        kernel_initializer: InitializerLike = None,
        seed: int | None = None,
        report_metrics: bool = True,
        **kwargs,
    ):
        # Routing in low precision flips decisions (ST-MoE, arXiv:2202.08906,
        # section 3): routers compute in float32 under every policy.
        kwargs["dtype"] = "float32"
        super().__init__(report_metrics=report_metrics, **kwargs)
        check_size(
            num_experts=num_experts, min_expert_capacity=min_expert_capacity
        )
        if isinstance(group_size, str):
            check_choice(("sequence", "auto"), group_size=group_size)
        else:
            check_size(group_size=group_size)
        check_positive(
            capacity_factor=capacity_factor,
            eval_capacity_factor=eval_capacity_factor,
        )
        check_choice(ROUNDINGS, capacity_rounding=capacity_rounding)
        check_rate(jitter_noise=jitter_noise)
        check_not_negative(
            load_balancing_loss_weight=load_balancing_loss_weight,
            router_z_loss_weight=router_z_loss_weight,
        )
        self.num_experts = num_experts
        self.capacity_factor = capacity_factor
        self.eval_capacity_factor = eval_capacity_factor
        self.min_expert_capacity = min_expert_capacity
        self.capacity_rounding = capacity_rounding
        self.group_size = group_size
        self.jitter_noise = jitter_noise
        self.load_balancing_loss_weight = load_balancing_loss_weight
        self.balance_across_replicas = balance_across_replicas
        self.router_z_loss_weight = router_z_loss_weight
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed
        if jitter_noise:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        num_experts, dim = self.required_num_experts, input_shape[-1]
        if dim is None:
            raise ValueError(
                f"The last axis must be static. Received: {input_shape=}."
            )
        self.add_state(dim, num_experts)
        self.add_metrics(num_experts)

    @property
    def required_num_experts(self) -> int:
        """The number of experts.

        Raises:
            ValueError: if neither the user nor a `SparseMoE` has given it.
        """
        if self.num_experts is None:
            raise ValueError(
                "`num_experts` must be given where a router is used on its "
                "own. Received: num_experts=None."
            )
        return self.num_experts

    def add_state(self, dim: int, num_experts: int) -> None:
        """Adds the weights for tokens of size `dim`."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(dim, num_experts),
            initializer=self.kernel_initializer,
        )

    def call(
        self,
        inputs: Tensor,
        padding_mask: Tensor | None = None,
        token_ids: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan | SoftRoutingPlan:
        check_float(inputs=inputs)
        if training:
            refuse_recomputation(self)
        broken = None
        if training or padding_mask is not None:
            # NaN, in padding or elsewhere, would enter the kernel's gradient.
            real, broken = split_tokens(inputs, padding_mask)
            inputs = ops.where(real, inputs, 0.0)
            padding_mask = real[..., 0]
        logits = self.logits(inputs, training=training)
        plan = self.route(logits, padding_mask, training=training)
        if broken is not None:
            marked = mark_broken(plan.probabilities, broken)
            plan = plan._replace(probabilities=marked)
        self.record(plan, padding_mask, logits)
        return plan

    def logits(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Returns the float32 scores `[groups, tokens, experts]`."""
        inputs = self.jittered(inputs, training)
        if len(inputs.shape) == 4:
            # Both group axes are sharded; flattening them would gather them.
            scores = ops.einsum("bgsd,de->bgse", inputs, self.kernel)
            return as_spread(scores, num_group_axes=2)
        return apply_dense(lambda x: ops.matmul(x, self.kernel), inputs)

    def jittered(self, inputs: Tensor, training: bool | None) -> Tensor:
        """Returns float32 inputs, in training times the noise."""
        inputs = ops.cast(inputs, "float32")
        noise = self.jitter_noise
        if not (training and noise):
            return inputs
        return inputs * draw_uniform(
            inputs, 1.0 - noise, 1.0 + noise, seed=self.seed_generator
        )

    def route(
        self,
        logits: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan | SoftRoutingPlan:
        """Returns the plan for float32 `logits`; each subclass has its own."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `route`."
        )

    def expert_capacity(
        self, tokens_per_group: int | Tensor, training: bool | None = None
    ) -> int | Tensor | None:
        """Returns the slots of an expert in a group; `None` is dropless."""
        num_experts = self.required_num_experts
        factor = self.capacity_factor
        if not training:
            factor = self.eval_capacity_factor
        if factor is None:
            return None
        return expert_capacity(
            tokens_per_group,
            num_experts,
            factor,
            self.num_selected_experts,
            min_expert_capacity=self.min_expert_capacity,
            capacity_rounding=self.capacity_rounding,
        )

    def tokens_per_group(self, num_tokens: int | Tensor) -> int | Tensor | None:
        """Returns the size of groups of a batch; `None` for one group."""
        if self.group_size != "auto":
            return self.group_size
        # A one-hot array has a float32 entry for each slot and token. There are
        # `factor * tokens` slots, at most one more an expert for rounding up,
        # or `min_expert_capacity` slots of each expert.
        experts, entries = self.required_num_experts, _ONE_HOT_BYTES / 4
        factor = (self.capacity_factor or 1.0) * self.num_selected_experts
        factor = min(factor, experts)  # slots are no more than tokens
        by_load = math.sqrt(experts**2 + 4 * factor * entries) - experts
        by_least = entries / (experts * (self.min_expert_capacity + 1))
        most = max(1, int(min(by_load / (2 * factor), by_least)))
        maximum = max if isinstance(num_tokens, int) else ops.maximum
        num_groups = maximum(-(-num_tokens // most), 1)
        return maximum(-(-num_tokens // num_groups), 1)

    def record(
        self,
        plan: RoutingPlan | SoftRoutingPlan,
        padding_mask: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> None:
        """Adds the losses of a plan to the layer's, and updates the metrics.

        Does nothing where neither is kept, as in decoding.

        Args:
            plan: what `route` returned; tokens that are not finite enter none.
            padding_mask: bool `[groups, tokens]`, false for padding.
            logits: the router's scores; `None` if there are none.
        """
        if not records_are_kept():
            return
        probabilities = plan.probabilities
        real = ops.logical_not(broken_rows(probabilities)[..., 0])
        if padding_mask is not None:
            real = ops.logical_and(real, ops.cast(padding_mask, "bool"))
        padding_mask = real
        balance = z_loss = ops.zeros((), dtype="float32")
        if isinstance(plan, RoutingPlan):
            balance = load_balancing_loss(
                probabilities,
                padding_mask,
                plan.expert_index[..., : self.num_balanced_choices],
                across_replicas=self.balance_across_replicas,
            )
        if logits is not None:
            z_loss = router_z_loss(logits, padding_mask)
        if self.load_balancing_loss_weight:
            self.add_loss(self.load_balancing_loss_weight * balance)
        if self.router_z_loss_weight:
            self.add_loss(self.router_z_loss_weight * z_loss)
        self.update_metrics(plan, real, balance, z_loss)

    def quantize(self, mode: str | None = None, **kwargs) -> None:
        """Does nothing: routing in low precision flips decisions."""

    def get_config(self) -> Config:
        config = super().get_config()
        del config["dtype"]
        return {
            **config,
            "num_experts": self.num_experts,
            "capacity_factor": self.capacity_factor,
            "eval_capacity_factor": self.eval_capacity_factor,
            "min_expert_capacity": self.min_expert_capacity,
            "capacity_rounding": self.capacity_rounding,
            "group_size": self.group_size,
            "jitter_noise": self.jitter_noise,
            "load_balancing_loss_weight": self.load_balancing_loss_weight,
            "balance_across_replicas": self.balance_across_replicas,
            "router_z_loss_weight": self.router_z_loss_weight,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "seed": self.seed,
            "report_metrics": self.report_metrics,
        }
