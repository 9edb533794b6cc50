"""The encoder stack."""

import keras
from keras import ops

from keras_moe.layers import EncoderBlock
from keras_moe.layers import RelativePositionBias
from keras_moe.models.switch_transformer.config import SwitchTransformerConfig
from keras_moe.models.switch_transformer.stacks import make_attention
from keras_moe.models.switch_transformer.stacks import make_feed_forward
from keras_moe.types import Shape
from keras_moe.types import Tensor


class Encoder(keras.layers.Layer):
    """Blocks of self-attention under one table of relative positions.

    Args:
        config: the sizes.

    Call arguments:
        inputs: embedded tokens, `(batch, length, model_dim)`.
        padding_mask: bool `(batch, length)`.
        training: whether to train.

    Output shape:
        `(batch, length, model_dim)`, normalised.
    """

    def __init__(self, config: SwitchTransformerConfig, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.position_bias = RelativePositionBias(
            config.num_heads,
            config.num_relative_buckets,
            config.max_relative_distance,
            dtype=dtype,
            name="position_bias",
        )
        self.blocks = [
            EncoderBlock(
                make_attention(config, "attention", dtype),
                make_feed_forward(config, block, dtype),
                config.dropout_rate,
                dtype=dtype,
                name=f"block_{block}",
            )
            for block in range(config.num_encoder_layers)
        ]
        self.final_norm = keras.layers.RMSNormalization(
            epsilon=1e-6, dtype=dtype, name="final_norm"
        )
        self.dropout = keras.layers.Dropout(
            config.dropout_rate, dtype=dtype, name="dropout"
        )

    def build(self, input_shape: Shape) -> None:
        self.position_bias.build()
        for block in self.blocks:
            block.build(input_shape)
        self.final_norm.build(input_shape)

    def call(
        self,
        inputs: Tensor,
        padding_mask: Tensor,
        training: bool | None = None,
    ) -> Tensor:
        position = ops.arange(ops.shape(inputs)[1])
        bias = self.position_bias(position, position)
        x = self.dropout(inputs, training=training)
        for block in self.blocks:
            x = block(
                x, bias=bias, padding_mask=padding_mask, training=training
            )
        return self.dropout(self.final_norm(x), training=training)
