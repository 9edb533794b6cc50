"""The encoder stack."""

from keras_moe.layers import EncoderBlock
from keras_moe.models.switch_transformer._config import SwitchTransformerConfig
from keras_moe.models.switch_transformer._stack import Stack
from keras_moe.models.switch_transformer._stack import make_attention
from keras_moe.models.switch_transformer._stack import make_feed_forward
from keras_moe.types import Tensor


class Encoder(Stack):
    """Blocks of self-attention in both directions.

    Args:
        config: the sizes.

    Call arguments:
        inputs: embedded tokens, `(batch, length, model_dim)`.
        padding_mask: bool `(batch, length)`.
        training: whether to train.

    Output shape:
        `(batch, length, model_dim)`, normalised.
    """

    def __init__(self, config: SwitchTransformerConfig, dtype=None, **kwargs):
        blocks = [
            EncoderBlock(
                make_attention(config, "attention", dtype),
                make_feed_forward(config, block, dtype, causal=False),
                config.dropout_rate,
                dtype=dtype,
                name=f"block_{block}",
            )
            for block in range(config.num_encoder_layers)
        ]
        super().__init__(
            config, blocks, bidirectional=True, dtype=dtype, **kwargs
        )

    def call(
        self,
        inputs: Tensor,
        padding_mask: Tensor,
        training: bool | None = None,
    ) -> Tensor:
        outputs = self.run_blocks(
            inputs, padding_mask=padding_mask, training=training
        )
        return self.finish(outputs[-1], training=training)
