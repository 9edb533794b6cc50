"""How blocks are made from a config."""

import keras

from keras_moe.layers import FeedForward
from keras_moe.layers import SparseMoE
from keras_moe.layers import SwitchRouter
from keras_moe.layers import T5Attention
from keras_moe.models.switch_transformer.config import SwitchTransformerConfig


def make_attention(
    config: SwitchTransformerConfig, name: str, dtype
) -> T5Attention:
    """Returns an attention layer of the config's size."""
    return T5Attention(
        config.num_heads,
        config.head_dim,
        dropout_rate=config.dropout_rate,
        dtype=dtype,
        name=name,
    )


def make_feed_forward(
    config: SwitchTransformerConfig, block: int, dtype
) -> keras.layers.Layer:
    """Returns the sparse or dense feed-forward layer of block `block`."""
    if not config.is_sparse(block):
        return FeedForward(
            config.hidden_dim,
            activation=config.activation,
            gated=config.gated,
            dropout_rate=config.dropout_rate,
            dtype=dtype,
            name="feed_forward",
        )
    return SparseMoE(
        config.num_experts,
        config.hidden_dim,
        router=SwitchRouter(
            capacity_factor=config.capacity_factor,
            jitter_noise=config.jitter_noise,
            load_balancing_loss_weight=config.load_balancing_loss_weight,
            router_z_loss_weight=config.router_z_loss_weight,
            name="router",
        ),
        activation=config.activation,
        gated=config.gated,
        expert_dropout_rate=config.expert_dropout_rate,
        kernel_initializer=keras.initializers.VarianceScaling(
            config.expert_initializer_scale,
            mode="fan_in",
            distribution="truncated_normal",
        ),
        dtype=dtype,
        name="sparse_moe",
    )
