"""The mixture-of-experts feed-forward layer."""

import keras
from keras import ops

from keras_moe.backend import refuse_ignored_distribution
from keras_moe.keras_internals import count_name
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.moe._executors import EXECUTORS
from keras_moe.layers.moe._executors import choose_executor
from keras_moe.layers.moe._experts import Experts
from keras_moe.layers.moe._group_size import group_size
from keras_moe.layers.moe._merge_experts import merge_experts
from keras_moe.layers.routers._presets import ROUTERS
from keras_moe.layers.routers._router import Router
from keras_moe.layers.transformer._feed_forward import FeedForward
from keras_moe.ops import group_tokens
from keras_moe.ops import ungroup_tokens
from keras_moe.ops.routing._spread_groups import join_groups
from keras_moe.ops.routing._spread_groups import spread_groups
from keras_moe.serialization import deserialize_sublayers
from keras_moe.serialization import quantized_dtype
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
from keras_moe.weights._own_metrics import own_metrics


@register
class SparseMoE(keras.layers.Layer):
    """Feed-forward layer of which each token uses only the experts it needs.

    A drop-in for a Transformer's feed-forward network: the router scores each
    token, the token is computed by the experts it was sent to, and the results
    are summed, weighted by the router's probabilities. Parameters grow with
    `num_experts`; in training the arithmetic of a token does not, beyond the
    capacity factor. With `dispatch="ragged"`, what `"auto"` chooses on a CPU,
    it does not in evaluation either; with slots, evaluation computes as many
    as the longest queue has tokens, or under XLA, whose shapes are static, as
    there are tokens.

    Source: [Fedus et al., 2021](https://arxiv.org/abs/2101.03961); for other
    routers see each of them. `docs/anchors.md` lists the arguments that give
    the behaviour of other implementations.

    The router's losses are added to the model's (`layer.losses`), its
    metrics (`layer.router.metrics`) appear in the logs as
    `<layer>/auxiliary_loss`, `router_z_loss`, `fraction_tokens_left_behind`,
    `router_confidence`, `expert_usage`, `router_entropy` and `expert_load_cv`,
    unless the router has `report_metrics=False`. Outside of training no token
    is dropped, unless the router's `eval_capacity_factor` says so.

    Args:
        num_experts: number of experts.
        hidden_dim: inner size of each expert.
        router: a name, `"switch"`, `"gshard"`, `"glam"`, `"st_moe"`,
            `"v_moe"`, `"top_k"`, `"bias_balanced"`, `"expert_choice"`,
            `"soft"`, `"hash"` or `"locality_hash"`; or a
            `keras_moe.layers.Router`, which holds the settings of capacity,
            groups, jitter and auxiliary losses:
            `router=SwitchRouter(capacity_factor=2.0)`.
        activation: activation inside the experts.
        dispatch: how the plan is carried out: `"gather"` (a table of slots),
            `"einsum"` (one-hot products, for TPUs with small groups; it warns
            where that is quadratic), `"ragged"` (no empty slots, for CPUs;
            under XLA the same as `"gather"`), or `"auto"` to let the layer
            choose. All give the same outputs and gradients. `tape.jacobian`
            needs `experimental_use_pfor=False` with `"ragged"`, since
            TensorFlow's `pfor` fails on experts without tokens.
        gated: whether the experts are gated linear units.
        use_bias: whether the experts have biases.
        expert_dropout_rate: dropout inside the experts.
        causal: whether the layer stands in a causal decoder: refuses a router
            that looks ahead, such as `"expert_choice"`. In dropless
            evaluation no token then depends on later ones; for training see
            `priority` of `TopKRouter`.
        kernel_initializer: initialiser of each expert's kernels, with the
            fans of one expert; by default truncated normal with scale 0.1.
        bias_initializer: initialiser of the experts' biases.

    Call arguments:
        inputs: `(batch, ..., dim)`.
        mask: bool `(batch, ...)`, false for padding; taken from the inputs
            where Keras propagates one.
        token_ids: int `(batch, ...)`, for routers that look at ids.
        training: whether to jitter, to drop beyond the training capacity, and
            to apply dropout.

    Masking:
        Padding is not routed, takes no capacity, enters no loss and no
        metric, and comes out as zero. The mask is passed on. `x + y` of
        symbolic tensors has no mask, whatever `x` has, and `keras.layers.Add`
        does: the layer warns where a mask was lost before it.

    Output shape:
        That of the inputs.

    Raises:
        ValueError: if an argument is out of its range.
        RuntimeError: in training within `keras.remat`: its losses would have
            no gradient.

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
        causal: bool = False,
        kernel_initializer: InitializerLike = None,
        bias_initializer: InitializerLike = "zeros",
        **kwargs,
    ):
        if kwargs.get("name") is None:
            # Keras would call the layer `sparse_mo_e`.
            kwargs["name"] = count_name("sparse_moe")
        super().__init__(**kwargs)
        check_size(num_experts=num_experts)
        check_choice(("auto", *EXECUTORS), dispatch=dispatch)
        check_rate(expert_dropout_rate=expert_dropout_rate)
        self.num_experts = num_experts
        self.dispatch = dispatch
        self.causal = causal
        self.router = _resolve_router(router, num_experts)
        if causal and not self.router.is_causal:
            raise ValueError(
                "`router` must not look at later tokens in a causal layer. "
                f"Received: causal=True, router={self.router!r}."
            )
        self.experts = Experts(
            num_experts,
            hidden_dim,
            activation=activation,
            gated=gated,
            use_bias=use_bias,
            dropout_rate=expert_dropout_rate,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,  # with those of the banks, if loaded
            name="experts",
        )
        self.supports_masking = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The layer's own metrics, none: those of routing are its router's.

        A model would list them once for each layer that they lie in.
        """
        return own_metrics(self)

    def build(self, input_shape: Shape) -> None:
        refuse_ignored_distribution()
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
        token_ids: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        if mask is not None:
            _check_mask(mask, inputs)
            # A padding row of NaN would spread: 0 * NaN is NaN in the one-hot
            # product.
            real = ops.cast(ops.expand_dims(mask, -1), "bool")
            inputs = ops.where(real, inputs, 0.0)
        size = group_size(self.router, inputs)
        tokens, padding_mask = group_tokens(inputs, mask, size)
        tokens = spread_groups(tokens)
        if padding_mask is not None:
            padding_mask = spread_groups(padding_mask)
        if token_ids is not None:
            _check_token_ids(token_ids, inputs)
            token_ids, _ = group_tokens(
                ops.expand_dims(token_ids, -1), None, size
            )
            token_ids = spread_groups(ops.squeeze(token_ids, -1))
        plan = self.router(
            tokens,
            padding_mask=padding_mask,
            token_ids=token_ids,
            training=training,
        )
        if self.dispatch == "auto":
            a_step = len(inputs.shape) == 3 and inputs.shape[1] == 1
            execute = choose_executor(plan, self.experts, few_rows=a_step)
        else:
            execute = EXECUTORS[self.dispatch]
        outputs = execute(tokens, plan, self.experts, training)
        return ungroup_tokens(join_groups(outputs), like=inputs)

    def compute_output_spec(
        self, inputs: Tensor, mask: Tensor | None = None, **others
    ) -> keras.KerasTensor:
        """Returns the spec of the output; warns of a mask that was lost."""
        check_float(inputs=inputs)
        warn_of_lost_mask(self, inputs, mask)
        return super().compute_output_spec(inputs, mask=mask, **others)

    def to_feed_forward(
        self, expert: str | int = "average", name: str | None = None
    ) -> FeedForward:
        """Returns one dense network in place of the experts.

        A dense student is initialised by it. The router's probabilities, by
        which this layer multiplies the outputs of experts, are left out.

        Args:
            expert: `"average"`; `"weighted_average"` or `"most_used"`, by the
                load since the metrics were reset; or the number of an expert.
            name: name of the new layer.

        Returns:
            A built `keras_moe.layers.FeedForward`.

        Raises:
            ValueError: if the layer is not built, there is no such `expert`,
                or nothing was routed yet and `expert` needs the load.
        """
        load = self.router.expert_load.load() if self.built else None
        return merge_experts(self.experts, expert, load, name)

    def quantize(self, mode: str, **kwargs) -> None:
        """Quantises the experts; the router stays float32.

        `"int8"` works with every executor. On TensorFlow's CPU it saves size,
        not time.
        """
        self.experts.quantize(mode, **kwargs)

    def enable_lora(self, rank: int, lora_alpha: float | None = None) -> None:
        """Freezes the experts and adds trainable factors of low rank.

        A saved layer has the factors merged: outputs are equal after loading,
        but the experts are trainable, until this method is called again.
        """
        self.experts.enable_lora(rank, lora_alpha=lora_alpha)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        experts = self.experts.get_config()
        return {
            **super().get_config(),
            **quantized_dtype(self),
            "num_experts": self.num_experts,
            "hidden_dim": experts["hidden_dim"],
            "router": serialize_sublayer(self.router),
            "activation": experts["activation"],
            "dispatch": self.dispatch,
            "gated": experts["gated"],
            "use_bias": experts["use_bias"],
            "expert_dropout_rate": experts["dropout_rate"],
            "causal": self.causal,
            "kernel_initializer": experts["kernel_initializer"],
            "bias_initializer": experts["bias_initializer"],
        }

    @classmethod
    def from_config(cls, config: Config) -> "SparseMoE":
        """Rebuilds the layer, its router included."""
        return cls(**deserialize_sublayers(config, "router"))


def _check_token_ids(token_ids: Tensor, inputs: Tensor) -> None:
    if not _fits(token_ids, inputs):
        raise ValueError(
            "`token_ids` must have the shape of the inputs without their last "
            f"axis, {tuple(inputs.shape[:-1])}. Received: token_ids.shape="
            f"{tuple(token_ids.shape)}."
        )


def _fits(per_token: Tensor, inputs: Tensor) -> bool:
    expected, given = tuple(inputs.shape[:-1]), tuple(per_token.shape)
    return len(expected) == len(given) and all(
        None in pair or pair[0] == pair[1]
        for pair in zip(expected, given, strict=True)
    )


def _check_mask(mask: Tensor, inputs: Tensor) -> None:
    """Refuses a mask that cannot be one of the inputs' tokens."""
    if not _fits(mask, inputs):
        raise ValueError(
            "`mask` must have the shape of the inputs without their last "
            f"axis, {tuple(inputs.shape[:-1])}. Received: mask.shape="
            f"{tuple(mask.shape)}."
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
