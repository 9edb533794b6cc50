"""The stack of blocks under encoder and decoder."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_moe.layers import FeedForward
from keras_moe.layers import LayerDropout
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import RelativePositionBias
from keras_moe.layers import Router
from keras_moe.layers import SparseMoE
from keras_moe.layers import T5Attention
from keras_moe.layers.routers._presets import ROUTERS
from keras_moe.layers.transformer._layer_dropout import layer_dropout_rates
from keras_moe.models.switch_transformer._config import SwitchTransformerConfig
from keras_moe.ops import gelu_tanh
from keras_moe.types import ActivationLike
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor


class Stack(keras.layers.Layer):
    """Blocks that share a table of relative positions, and a norm above them.

    Args:
        config: the sizes.
        blocks: the blocks, from the lowest.
        bidirectional: whether positions see later ones.
        layer_dropout_rate: how often the last block is left out in training;
            lower blocks less often.
    """

    def __init__(
        self,
        config: SwitchTransformerConfig,
        blocks: Sequence[keras.layers.Layer],
        bidirectional: bool,
        layer_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.position_bias = None
        if config.position_encoding == "relative_bias":
            self.position_bias = RelativePositionBias(
                config.num_heads,
                config.num_relative_buckets,
                config.max_relative_distance,
                bidirectional=bidirectional,
                dtype=self.dtype_policy,
                name="position_bias",
            )
        self.blocks = list(blocks)
        self.layer_dropouts = [
            LayerDropout(
                rate, dtype=self.dtype_policy, name=f"layer_dropout_{block}"
            )
            for block, rate in enumerate(
                layer_dropout_rates(layer_dropout_rate, len(self.blocks))
            )
        ]
        self.final_norm = keras.layers.RMSNormalization(
            epsilon=1e-6, dtype=self.dtype_policy, name="final_norm"
        )
        self.dropout = keras.layers.Dropout(
            config.dropout_rate, dtype=self.dtype_policy, name="dropout"
        )

    def build(self, input_shape: Shape) -> None:
        if self.position_bias is not None:
            self.position_bias.build()
        for block in self.blocks:
            block.build(input_shape)
        for drop in self.layer_dropouts:
            drop.build(input_shape, input_shape)
        self.final_norm.build(input_shape)

    def run_blocks(
        self, inputs: Tensor, *memory: Tensor, training: bool | None, **masks
    ) -> list[Tensor]:
        """Runs all blocks on all positions; returns the output of each.

        Args:
            inputs: embedded tokens, `(batch, length, model_dim)`.
            *memory: the encoder's output, for blocks that attend to it.
            training: whether to train.
            **masks: the blocks' masks, by the names of their arguments.
        """
        position = ops.arange(ops.shape(inputs)[1])
        bias = self.bias(position, position)
        x = self.dropout(inputs, training=training)
        outputs = []
        for block, drop in zip(self.blocks, self.layer_dropouts, strict=True):
            y = block(x, *memory, bias=bias, training=training, **masks)
            x = drop(x, y, training=training)
            outputs.append(x)
        return outputs

    def finish(self, x: Tensor, training: bool | None = None) -> Tensor:
        """Returns a block's output as the head takes it: normalised."""
        return self.dropout(self.final_norm(x), training=training)

    def bias(
        self, query_positions: Tensor, key_positions: Tensor
    ) -> Tensor | None:
        """Returns the biases of the attention scores, if there are any."""
        if self.position_bias is None:
            return None
        return self.position_bias(query_positions, key_positions)


def make_attention(
    config: SwitchTransformerConfig,
    name: str,
    dtype,
    causal: bool = False,
    across: bool = False,
) -> keras.layers.Layer:
    """Returns an attention layer of the config's size.

    Args:
        config: the sizes.
        name: its name, which ends in `"attention"`.
        dtype: its dtype or policy.
        causal: whether positions see no later ones.
        across: whether keys are of another sequence than queries: positions
            then say nothing about distances.
    """
    rotary = config.position_encoding == "rotary" and not across
    if config.attention == "softmax":
        return T5Attention(
            config.num_heads,
            config.head_dim,
            dropout_rate=config.dropout_rate,
            rotary=rotary,
            dtype=dtype,
            name=name,
        )
    return RandomFeatureAttention(
        config.num_heads,
        config.head_dim,
        config.num_random_features,
        config.feature_map,
        causal=causal,
        rotary=rotary,
        # A choice by length would let an answer depend on how far the rows
        # beside it are padded.
        exact_below=None,
        use_bias=False,
        dtype=dtype,
        # This name is in saved configs and in checkpoints, and must stay.
        name=name.replace("attention", "random_feature_attention"),
    )


def make_feed_forward(
    config: SwitchTransformerConfig, block: int, dtype, causal: bool
) -> keras.layers.Layer:
    """Returns the sparse or dense feed-forward layer of block `block`."""
    if not config.is_sparse(block):
        return FeedForward(
            config.hidden_dim,
            activation=_find_activation(config),
            gated=config.gated,
            dropout_rate=config.dropout_rate,
            dtype=dtype,
            name="feed_forward",
        )
    return SparseMoE(
        config.num_experts,
        config.hidden_dim,
        router=_make_router(config, causal),
        activation=_find_activation(config),
        gated=config.gated,
        expert_dropout_rate=config.expert_dropout_rate,
        kernel_initializer=keras.initializers.VarianceScaling(
            config.expert_initializer_scale,
            mode="fan_in",
            distribution="truncated_normal",
        ),
        causal=causal,
        dtype=dtype,
        name="sparse_moe",
    )


def _find_activation(config: SwitchTransformerConfig) -> ActivationLike:
    """Returns the activation; Keras has no name for the tanh form of GELU."""
    return gelu_tanh if config.activation == "gelu_tanh" else config.activation


def _make_router(config: SwitchTransformerConfig, causal: bool) -> Router:
    name = config.decoder_router if causal else config.encoder_router
    settings: Config = {
        "capacity_factor": config.capacity_factor,
        "jitter_noise": config.jitter_noise,
        "router_z_loss_weight": config.router_z_loss_weight,
        "report_metrics": config.report_metrics,
    }
    if name == "expert_choice":
        # Experts that choose among all tokens of a batch would let an answer
        # depend on the other rows.
        settings["group_size"] = "sequence"
    elif name != "bias_balanced":
        settings["load_balancing_loss_weight"] = (
            config.load_balancing_loss_weight
        )
    return ROUTERS[name](config.num_experts, name="router", **settings)
