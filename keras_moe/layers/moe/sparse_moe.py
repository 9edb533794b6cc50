"""The mixture-of-experts feed-forward layer."""

import keras

from keras_moe.layers.moe.experts import Experts
from keras_moe.layers.routers.router import Router
from keras_moe.layers.routers.switch_router import SwitchRouter
from keras_moe.ops import gather_combine
from keras_moe.ops import gather_dispatch
from keras_moe.ops import group_tokens
from keras_moe.ops import ungroup_tokens
from keras_moe.serialization import deserialize_sublayers
from keras_moe.serialization import register
from keras_moe.serialization import serialize_sublayer
from keras_moe.types import ActivationLike
from keras_moe.types import Config
from keras_moe.types import InitializerLike
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_rate
from keras_moe.validation import check_size

ROUTERS = {"switch": SwitchRouter}
# Each carries out the same plan: tokens to slots, and slots back to tokens.
EXECUTORS = {"gather": (gather_dispatch, gather_combine)}


@register
class SparseMoE(keras.layers.Layer):
    """Feed-forward layer of which each token uses only the experts it needs.

    A drop-in for a Transformer's feed-forward network: the router scores each
    token, the token is computed by the expert it was sent to, and the result
    is weighted by the router's probability. Parameters grow with
    `num_experts`; in training the arithmetic of a token does not, beyond the
    capacity factor. Outside of training the experts compute as many slots as
    the longest queue has tokens, so very small batches (and XLA, whose shapes
    are static) cost more than their tokens.

    Source: [Fedus et al., 2021](https://arxiv.org/abs/2101.03961).

    The router's losses are added to the model's (`layer.losses`), its
    metrics appear in the logs as `<layer>/auxiliary_loss`, `router_z_loss`,
    `fraction_tokens_left_behind`, `router_confidence` and `expert_usage`.
    Outside of training no token is dropped, unless the router's
    `eval_capacity_factor` says so.

    Args:
        num_experts: number of experts.
        hidden_dim: inner size of each expert.
        router: `"switch"`, or a `keras_moe.layers.Router`, which holds the
            settings of capacity, jitter and auxiliary losses:
            `router=SwitchRouter(capacity_factor=2.0)`.
        activation: activation inside the experts.
        dispatch: how the plan is carried out: `"gather"`, or `"auto"` to let
            the layer choose.
        gated: whether the experts are gated linear units.
        use_bias: whether the experts have biases.
        expert_dropout_rate: dropout inside the experts.
        kernel_initializer: initialiser of each expert's kernels, with the
            fans of one expert; by default truncated normal with scale 0.1.
        bias_initializer: initialiser of the experts' biases.

    Call arguments:
        inputs: `(batch, ..., dim)`.
        mask: bool `(batch, ...)`, false for padding; taken from the inputs
            where Keras propagates one.
        training: whether to jitter, to drop beyond the training capacity, and
            to apply dropout.

    Masking:
        Padding is not routed, takes no capacity, enters no loss and no
        metric, and comes out as zero. The mask is passed on.

    Input shape:
        `(batch, ..., dim)`.

    Output shape:
        The same.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> layer = keras_moe.layers.SparseMoE(num_experts=8, hidden_dim=64)
    >>> layer(np.random.rand(2, 10, 16)).shape
    TensorShape([2, 10, 16])
    """

    def __init__(
        self,
        num_experts: int,
        hidden_dim: int,
        router: str | Router = "switch",
        activation: ActivationLike = "relu",
        dispatch: str = "auto",
        gated: bool = False,
        use_bias: bool = False,
        expert_dropout_rate: float = 0.0,
        kernel_initializer: InitializerLike = None,
        bias_initializer: InitializerLike = "zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size(num_experts=num_experts)
        check_choice(("auto", *EXECUTORS), dispatch=dispatch)
        check_rate(expert_dropout_rate=expert_dropout_rate)
        self.num_experts = num_experts
        self.dispatch = dispatch
        self.router = _resolve_router(router, num_experts)
        self.experts = Experts(
            num_experts,
            hidden_dim,
            activation=activation,
            gated=gated,
            use_bias=use_bias,
            dropout_rate=expert_dropout_rate,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,
            name="experts",
        )
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        dim = input_shape[-1]
        if dim is None or len(input_shape) < 2:
            raise ValueError(
                "The input must have the shape (batch, ..., dim) with a "
                f"static last axis. Received: input_shape={input_shape}."
            )
        if self.router.built:
            raise ValueError(
                "`router` must not be built: each `SparseMoE` needs a router "
                "of its own. Received a router that another layer uses: "
                f"{self.router.path}."
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: dim})
        self.router.build((None, None, dim))
        self.experts.build((None, self.num_experts, None, dim))

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        if mask is not None:
            _check_mask(mask, inputs)
        tokens, padding_mask = group_tokens(
            inputs, mask, self.router.group_size
        )
        plan = self.router(tokens, padding_mask=padding_mask, training=training)
        dispatch, combine = EXECUTORS[
            "gather" if self.dispatch == "auto" else self.dispatch
        ]
        outputs = self.experts(dispatch(tokens, plan), training=training)
        return ungroup_tokens(combine(outputs, plan), like=inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        experts = self.experts.get_config()
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "hidden_dim": experts["hidden_dim"],
            "router": serialize_sublayer(self.router),
            "activation": experts["activation"],
            "dispatch": self.dispatch,
            "gated": experts["gated"],
            "use_bias": experts["use_bias"],
            "expert_dropout_rate": experts["dropout_rate"],
            "kernel_initializer": experts["kernel_initializer"],
            "bias_initializer": experts["bias_initializer"],
        }

    @classmethod
    def from_config(cls, config: Config) -> "SparseMoE":
        """Rebuilds the layer, its router included."""
        return cls(**deserialize_sublayers(config, "router"))


def _check_mask(mask: Tensor, inputs: Tensor) -> None:
    """Refuses a mask that would hide other tokens than it means."""
    expected, given = tuple(inputs.shape[:-1]), tuple(mask.shape)
    differ = len(expected) != len(given) or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(expected, given, strict=False)
    )
    if differ:
        raise ValueError(
            "`mask` must have the shape of the inputs without their last "
            f"axis, {expected}. Received: mask.shape={given}."
        )
    dtype = keras.backend.standardize_dtype(mask.dtype)
    if dtype != "bool" and "int" not in dtype:
        raise ValueError(
            "`mask` must be boolean, true for tokens and false for padding. "
            f"Received: mask.dtype={dtype}."
        )


def _resolve_router(router: str | Router, num_experts: int) -> Router:
    if isinstance(router, str) and router in ROUTERS:
        return ROUTERS[router](num_experts, name="router")
    if not isinstance(router, Router):
        raise ValueError(
            f"`router` must be one of {tuple(ROUTERS)} or a "
            f"`keras_moe.layers.Router`. Received: router={router!r}."
        )
    if router.num_experts is None:
        router.num_experts = num_experts
    if router.num_experts != num_experts:
        raise ValueError(
            "`router` must have as many experts as the layer. Received: "
            f"num_experts={num_experts}, router.num_experts="
            f"{router.num_experts}."
        )
    return router
