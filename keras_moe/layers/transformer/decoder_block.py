"""A block of the decoder."""

from typing import NamedTuple

import keras
from keras import ops

from keras_moe.layers.attention.t5_attention import T5Attention
from keras_moe.layers.transformer.residual import Residual
from keras_moe.serialization import deserialize_sublayers
from keras_moe.serialization import register
from keras_moe.serialization import serialize_sublayer
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor


class KeyValueCache(NamedTuple):
    """Projected keys and values, `(batch, num_heads, length, key_dim)`."""

    keys: Tensor
    values: Tensor


@register
class DecoderBlock(keras.layers.Layer):
    """Causal self-attention, cross-attention and a feed-forward layer.

    `call` computes all positions of a known target; `step` computes one
    position from a cache and gives the same result.

    Args:
        self_attention: a `keras_moe.layers.T5Attention`.
        cross_attention: a `keras_moe.layers.T5Attention`.
        feed_forward: `keras_moe.layers.FeedForward`,
            `keras_moe.layers.SparseMoE`, or a layer called like them. It must
            be causal: a token's output may not depend on later tokens.
        dropout_rate: dropout of each sublayer's output.

    Call arguments:
        inputs: `(batch, length, dim)`.
        memory: the encoder's output, `(batch, memory_length, dim)`.
        bias: relative position bias, `(num_heads, length, length)`.
        padding_mask: bool `(batch, length)`, false for padding.
        memory_mask: bool `(batch, memory_length)`, false for padding.
        training: whether to train.

    Output shape:
        `(batch, length, dim)`.
    """

    def __init__(
        self,
        self_attention: T5Attention,
        cross_attention: T5Attention,
        feed_forward: keras.layers.Layer,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.self_attention = self_attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.dropout_rate = dropout_rate
        for name in ("self_attention", "cross_attention", "feed_forward"):
            around = Residual(
                dropout_rate, dtype=self.dtype_policy, name=f"around_{name}"
            )
            setattr(self, f"around_{name}", around)

    def build(self, input_shape: Shape) -> None:
        self.around_self_attention.build(input_shape)
        self.self_attention.build(input_shape, input_shape)
        self.around_cross_attention.build(input_shape)
        self.cross_attention.build(input_shape, input_shape)
        self.around_feed_forward.build(input_shape)
        self.feed_forward.build(input_shape)

    def call(
        self,
        inputs: Tensor,
        memory: Tensor,
        bias: Tensor | None = None,
        padding_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        position = ops.arange(ops.shape(inputs)[1])
        causal = position[:, None] >= position[None, :]
        visible = ops.reshape(causal, (1, 1, *ops.shape(causal)))
        if padding_mask is not None:
            visible = visible & padding_mask[:, None, None, :]
        x = self.around_self_attention.norm(inputs)
        attended = self.self_attention(
            x, x, bias=bias, attention_mask=visible, training=training
        )
        x = self.around_self_attention.add(inputs, attended, training)
        return self._after_self_attention(
            x,
            self.memory_cache(memory),
            padding_mask=padding_mask,
            memory_mask=memory_mask,
            training=training,
        )

    def memory_cache(self, memory: Tensor) -> KeyValueCache:
        """Projects the encoder's output once for all steps."""
        return KeyValueCache(*self.cross_attention.key_value_heads(memory))

    def step(
        self,
        inputs: Tensor,
        position: Tensor,
        cache: KeyValueCache,
        memory: KeyValueCache,
        bias: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        """Computes one position.

        Args:
            inputs: `(batch, 1, dim)`, the position's input.
            position: int32 scalar.
            cache: keys and values of the positions before; `length` of them
                are allotted.
            memory: what `memory_cache` returned.
            bias: relative position bias, `(num_heads, 1, length)`.
            memory_mask: bool `(batch, memory_length)`.

        Returns:
            The output `(batch, 1, dim)` and the cache with the position
            written.
        """
        x = self.around_self_attention.norm(inputs)
        new = self.self_attention.key_value_heads(x)
        slot = ops.arange(cache.keys.shape[2])
        here = ops.reshape(slot == position, (1, 1, -1, 1))
        cache = KeyValueCache(
            *(
                ops.where(here, fresh, old)
                for fresh, old in zip(new, cache, strict=True)
            )
        )
        visible = ops.reshape(slot <= position, (1, 1, 1, -1))
        attended = self.self_attention.attend(
            self.self_attention.query_heads(x),
            *cache,
            bias=bias,
            attention_mask=visible,
        )
        x = self.around_self_attention.add(inputs, attended)
        x = self._after_self_attention(x, memory, memory_mask=memory_mask)
        return x, cache

    def _after_self_attention(
        self,
        x: Tensor,
        memory: KeyValueCache,
        padding_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        visible = None
        if memory_mask is not None:
            visible = memory_mask[:, None, None, :]
        queries = self.cross_attention.query_heads(
            self.around_cross_attention.norm(x)
        )
        attended = self.cross_attention.attend(
            queries, *memory, attention_mask=visible, training=training
        )
        x = self.around_cross_attention.add(x, attended, training)
        fed = self.feed_forward(
            self.around_feed_forward.norm(x),
            mask=padding_mask,
            training=training,
        )
        return self.around_feed_forward.add(x, fed, training)

    def compute_output_shape(
        self, inputs_shape: Shape, memory_shape: Shape
    ) -> Shape:
        return tuple(inputs_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "self_attention": serialize_sublayer(self.self_attention),
            "cross_attention": serialize_sublayer(self.cross_attention),
            "feed_forward": serialize_sublayer(self.feed_forward),
            "dropout_rate": self.dropout_rate,
        }

    @classmethod
    def from_config(cls, config: Config) -> "DecoderBlock":
        """Rebuilds the block, its sublayers included."""
        return cls(
            **deserialize_sublayers(
                config, "self_attention", "cross_attention", "feed_forward"
            )
        )
