"""A block of the encoder."""

import keras

from keras_moe.keras_internals import get_mask
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.transformer._residual import Residual
from keras_moe.serialization import deserialize_sublayers
from keras_moe.serialization import register
from keras_moe.serialization import serialize_sublayer
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor


@register
class EncoderBlock(keras.layers.Layer):
    """Self-attention and a feed-forward layer, each pre-norm and residual.

    Args:
        attention: the self-attention, a layer called as
            `keras_moe.layers.StatefulAttention` is:
            `keras_moe.layers.T5Attention` or
            `keras_moe.layers.RandomFeatureAttention`.
        feed_forward: what follows it: `keras_moe.layers.FeedForward`,
            `keras_moe.layers.SparseMoE`, or a layer called like them.
        dropout_rate: dropout of each sublayer's output.

    Call arguments:
        inputs: `(batch, length, dim)`.
        bias: relative position bias, `(num_heads, length, length)`.
        padding_mask: bool `(batch, length)`, false for padding; taken from the
            inputs where Keras propagates one.
        training: whether to train.

    Output shape:
        `(batch, length, dim)`.

    Example:

    >>> block = keras_moe.layers.EncoderBlock(
    ...     keras_moe.layers.T5Attention(num_heads=2, key_dim=4),
    ...     keras_moe.layers.FeedForward(hidden_dim=32),
    ... )
    >>> block(np.ones((1, 5, 8), "float32")).shape
    TensorShape([1, 5, 8])
    """

    def __init__(
        self,
        attention: keras.layers.Layer,
        feed_forward: keras.layers.Layer,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.attention = attention
        self.feed_forward = feed_forward
        self.dropout_rate = dropout_rate
        self.around_attention = self.make_residual("around_attention")
        self.around_feed_forward = self.make_residual("around_feed_forward")
        self.supports_masking = True

    def make_residual(self, name: str) -> Residual:
        """Returns what is around a sublayer."""
        return Residual(self.dropout_rate, dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Shape) -> None:
        self.around_attention.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.around_feed_forward.build(input_shape)
        self.feed_forward.build(input_shape)

    def call(
        self,
        inputs: Tensor,
        bias: Tensor | None = None,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        check_float(inputs=inputs)
        if padding_mask is None:
            padding_mask = get_mask(inputs)
        x = self.around_attention.norm(inputs)
        attended = self.attention(
            x,
            x,
            bias=bias,
            query_mask=padding_mask,
            value_mask=padding_mask,
            training=training,
        )
        x = self.around_attention.add(inputs, attended, training)
        fed = self.feed_forward(
            self.around_feed_forward.norm(x),
            mask=padding_mask,
            training=training,
        )
        return self.around_feed_forward.add(x, fed, training)

    def compute_output_spec(
        self, inputs: Tensor, *others, **named
    ) -> keras.KerasTensor:
        """Returns the spec of the output; warns of a mask that was lost."""
        check_float(inputs=inputs)
        warn_of_lost_mask(self, inputs, named.get("padding_mask"))
        return super().compute_output_spec(inputs, *others, **named)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "attention": serialize_sublayer(self.attention),
            "feed_forward": serialize_sublayer(self.feed_forward),
            "dropout_rate": self.dropout_rate,
        }

    @classmethod
    def from_config(cls, config: Config) -> "EncoderBlock":
        """Rebuilds the block, its sublayers included."""
        return cls(**deserialize_sublayers(config, "attention", "feed_forward"))
