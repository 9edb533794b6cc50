"""The base of all routers."""

import keras
from keras import ops

from keras_moe.losses import load_balancing_loss
from keras_moe.losses import router_z_loss
from keras_moe.metrics.routing import routing_statistics
from keras_moe.ops import RoutingPlan
from keras_moe.ops import expert_capacity
from keras_moe.ops.capacity import ROUNDINGS
from keras_moe.types import Config
from keras_moe.types import InitializerLike
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_positive
from keras_moe.validation import check_rate
from keras_moe.validation import check_size

_NEEDS_NUM_EXPERTS = (
    "`num_experts` must be given where a router is used on its own. "
    "Received: num_experts=None."
)


class Router(keras.layers.Layer):
    """Scores tokens against experts and plans who goes where.

    Subclasses implement `route`. The base holds what all share: logits in
    float32 under every dtype policy, input jitter, capacity, auxiliary losses
    and metrics.

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
        group_size: tokens that route together; `None` for the whole batch.
        jitter_noise: in training the router (and the router alone) sees its
            input multiplied by uniform noise from `[1 - jitter_noise,
            1 + jitter_noise]`, drawn anew for each element.
        load_balancing_loss_weight: factor of `losses.load_balancing_loss`.
        router_z_loss_weight: factor of `losses.router_z_loss`.
        kernel_initializer: initialiser of the router's kernel.
        seed: seed of the jitter.

    Call arguments:
        inputs: `[groups, tokens, dim]`.
        padding_mask: bool `[groups, tokens]`, false for padding.
        token_ids: ids of the tokens, for routers that look at them.
        training: whether to jitter and to use the training capacity.

    Returns:
        A `keras_moe.ops.RoutingPlan`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        num_experts: int | None = None,
        capacity_factor: float | None = 1.25,
        eval_capacity_factor: float | None = None,
        min_expert_capacity: int = 4,
        capacity_rounding: str = "ceil",
        group_size: int | None = None,
        jitter_noise: float = 0.01,
        load_balancing_loss_weight: float = 0.01,
        router_z_loss_weight: float = 0.001,
        kernel_initializer: InitializerLike = None,
        seed: int | None = None,
        **kwargs,
    ):
        # Routing in low precision flips decisions: see ST-MoE,
        # arXiv:2202.08906, section 3. The policy of the model is not followed.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        check_size(
            num_experts=num_experts,
            min_expert_capacity=min_expert_capacity,
            group_size=group_size,
        )
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
        self.router_z_loss_weight = router_z_loss_weight
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed
        if jitter_noise:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        if self.num_experts is None:
            raise ValueError(_NEEDS_NUM_EXPERTS)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_experts),
            initializer=self.kernel_initializer,
        )
        # The path of a router ends in its own name; its layer's is the one
        # that a reader of the logs looks for.
        prefix = self.path.rsplit("/", 1)[0]
        self._trackers = {
            name: keras.metrics.Mean(name=f"{prefix}/{name}")
            for name in (
                "auxiliary_loss",
                "router_z_loss",
                "fraction_tokens_left_behind",
                "router_confidence",
                "expert_usage",
            )
        }

    def call(
        self,
        inputs: Tensor,
        padding_mask: Tensor | None = None,
        token_ids: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan:
        if padding_mask is not None:
            # Whatever padding holds, it stays out of the kernel's gradient.
            real = ops.cast(ops.expand_dims(padding_mask, -1), "bool")
            inputs = ops.where(real, inputs, ops.zeros_like(inputs))
        logits = self.logits(inputs, training=training)
        plan = self.route(logits, padding_mask, training=training)
        self._record(logits, plan, padding_mask)
        return plan

    def logits(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Returns the float32 scores `[groups, tokens, experts]`."""
        inputs = ops.cast(inputs, "float32")
        if training and self.jitter_noise:
            inputs = inputs * keras.random.uniform(
                ops.shape(inputs),
                1.0 - self.jitter_noise,
                1.0 + self.jitter_noise,
                dtype="float32",
                seed=self.seed_generator,
            )
        return ops.matmul(inputs, self.kernel)

    def route(
        self,
        logits: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> RoutingPlan:
        """Turns scores into a plan. Each router has its own."""
        raise NotImplementedError(
            f"{type(self).__name__} must implement `route`."
        )

    def expert_capacity(
        self, tokens_per_group: int | Tensor, training: bool | None = None
    ) -> int | Tensor | None:
        """Returns the slots of an expert in a group; `None` is dropless."""
        if self.num_experts is None:
            raise ValueError(_NEEDS_NUM_EXPERTS)
        factor = self.capacity_factor
        if not training:
            factor = self.eval_capacity_factor
        if factor is None:
            return None
        return expert_capacity(
            tokens_per_group,
            self.num_experts,
            factor,
            min_expert_capacity=self.min_expert_capacity,
            capacity_rounding=self.capacity_rounding,
        )

    def _record(
        self, logits: Tensor, plan: RoutingPlan, padding_mask: Tensor | None
    ) -> None:
        balance = load_balancing_loss(plan.probabilities, padding_mask)
        z_loss = router_z_loss(logits, padding_mask)
        if self.load_balancing_loss_weight:
            self.add_loss(self.load_balancing_loss_weight * balance)
        if self.router_z_loss_weight:
            self.add_loss(self.router_z_loss_weight * z_loss)
        statistics = routing_statistics(plan, padding_mask)
        statistics["auxiliary_loss"] = balance
        statistics["router_z_loss"] = z_loss
        tokens = (
            ops.size(logits) // self.num_experts
            if padding_mask is None
            else ops.sum(ops.cast(padding_mask, "int32"))
        )
        for name, value in statistics.items():
            self._trackers[name].update_state(value, sample_weight=tokens)

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
            "router_z_loss_weight": self.router_z_loss_weight,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "seed": self.seed,
        }
