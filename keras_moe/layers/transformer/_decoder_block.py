"""A block of the decoder."""

from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_moe.keras_internals import get_mask
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.attention._attention_cache import AttentionCache
from keras_moe.layers.attention._key_value_cache import KeyValueCache
from keras_moe.layers.attention._stateful_attention import StatefulAttention
from keras_moe.layers.transformer._residual import Residual
from keras_moe.ops._short_sequences import last_positions
from keras_moe.serialization import deserialize_sublayers
from keras_moe.serialization import register
from keras_moe.serialization import serialize_sublayer
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_contract


class DecoderBlockState(NamedTuple):
    """The state of a block between positions.

    Attributes:
        positions: the self-attention's state, of the positions so far.
        memory: the cross-attention's memory of the encoder's output.

    Example:

    >>> block = keras_moe.layers.DecoderBlock(
    ...     keras_moe.layers.T5Attention(num_heads=2, key_dim=4),
    ...     keras_moe.layers.T5Attention(num_heads=2, key_dim=4),
    ...     keras_moe.layers.FeedForward(hidden_dim=32),
    ... )
    >>> memory = np.random.rand(1, 7, 8).astype("float32")
    >>> first = np.random.rand(1, 1, 8).astype("float32")
    >>> outputs = block(first, memory)
    >>> state = block.init_state(memory, max_length=5)
    >>> outputs, state = block.step(first, state)
    >>> int(state.positions.position)
    1
    """

    positions: Any
    memory: Any


@register
class DecoderBlock(keras.layers.Layer):
    """Causal self-attention, cross-attention and a feed-forward layer.

    `call` computes all positions of a known target; `step` computes one
    position after the other and gives the same result.

    Args:
        self_attention: a layer that is a `keras_moe.layers.StatefulAttention`:
            `keras_moe.layers.T5Attention`, or
            `keras_moe.layers.RandomFeatureAttention` with `causal=True`.
        cross_attention: another one, not causal.
        feed_forward: `keras_moe.layers.FeedForward`,
            `keras_moe.layers.SparseMoE`, or a layer called like them. It must
            be causal: a token's output may not depend on later tokens.
        dropout_rate: dropout of each sublayer's output.

    Call arguments:
        inputs: `(batch, length, dim)`.
        memory: the encoder's output, `(batch, memory_length, dim)`.
        bias: relative position bias, `(num_heads, length, length)`.
        padding_mask: bool `(batch, length)`, false for padding; taken from the
            inputs where Keras propagates one.
        memory_mask: bool `(batch, memory_length)`, false for padding; taken
            from `memory` likewise.
        training: whether to train.

    Output shape:
        `(batch, length, dim)`.

    Raises:
        ValueError: if an attention lacks a method.

    Example:

    >>> block = keras_moe.layers.DecoderBlock(
    ...     keras_moe.layers.T5Attention(num_heads=2, key_dim=4),
    ...     keras_moe.layers.T5Attention(num_heads=2, key_dim=4),
    ...     keras_moe.layers.FeedForward(hidden_dim=32),
    ... )
    >>> x = np.random.rand(1, 5, 8).astype("float32")
    >>> memory = np.random.rand(1, 7, 8).astype("float32")
    >>> outputs = block(x, memory)
    >>> state = block.init_state(memory, max_length=5)
    >>> first, state = block.step(x[:, :1], state)
    >>> bool(np.allclose(first, outputs[:, :1], atol=1e-5))
    True
    """

    def __init__(
        self,
        self_attention: StatefulAttention,
        cross_attention: StatefulAttention,
        feed_forward: keras.layers.Layer,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_contract(
            StatefulAttention,
            self_attention=self_attention,
            cross_attention=cross_attention,
        )
        self.self_attention = self_attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.dropout_rate = dropout_rate
        for name in ("self_attention", "cross_attention", "feed_forward"):
            around = Residual(
                dropout_rate, dtype=self.dtype_policy, name=f"around_{name}"
            )
            setattr(self, f"around_{name}", around)
        self.supports_masking = True

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
        check_float(inputs=inputs, memory=memory)
        if padding_mask is None:
            padding_mask = get_mask(inputs)
        x = self.around_self_attention.norm(inputs)
        attended = self.self_attention(
            x,
            x,
            bias=bias,
            query_mask=padding_mask,
            value_mask=padding_mask,
            use_causal_mask=True,
            training=training,
        )
        x = self.around_self_attention.add(inputs, attended, training)
        attended = self.cross_attention(
            self.around_cross_attention.norm(x),
            memory,
            query_mask=padding_mask,
            value_mask=memory_mask,
            training=training,
        )
        x = self.around_cross_attention.add(x, attended, training)
        return self._feed(x, padding_mask, training)

    def init_state(
        self,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        max_length: int | None = None,
        cache: type[AttentionCache] = KeyValueCache,
    ) -> DecoderBlockState:
        """Returns the state before the first position.

        Args:
            memory: the encoder's output, `(batch, memory_length, dim)`.
            memory_mask: bool `(batch, memory_length)`.
            max_length: number of positions to allot, for attention that needs
                to know.
            cache: how attention that keeps all positions keeps them.
        """
        return DecoderBlockState(
            self.self_attention.init_state(
                ops.shape(memory)[0], max_length, cache
            ),
            self.cross_attention.encode_memory(memory, memory_mask),
        )

    def step(
        self,
        inputs: Tensor,
        state: DecoderBlockState,
        bias: Tensor | None = None,
        num_queries: int | None = None,
    ) -> tuple[Tensor, DecoderBlockState]:
        """Computes the next position, or the next few.

        Args:
            inputs: `(batch, positions, dim)`, the positions' inputs.
            state: what `init_state` or the step before returned.
            bias: relative position bias, `(num_heads, queries, max_length)`.
            num_queries: for how many of the positions, the last ones, the
                output is wanted; `None` for all.

        Returns:
            The output `(batch, queries, dim)` and the next state.
        """
        attended, positions = self.self_attention.step(
            self.around_self_attention.norm(inputs),
            state.positions,
            bias=bias,
            num_queries=num_queries,
        )
        if num_queries is not None:
            inputs = last_positions(inputs, num_queries)
        x = self.around_self_attention.add(inputs, attended)
        attended = self.cross_attention.attend_to_memory(
            self.around_cross_attention.norm(x), state.memory
        )
        x = self.around_cross_attention.add(x, attended)
        return self._feed(x), state._replace(positions=positions)

    def remember(
        self, inputs: Tensor, state: DecoderBlockState
    ) -> DecoderBlockState:
        """Returns the state after positions whose output nobody wants.

        Costs two projections, where `step` computes the whole block.

        Args:
            inputs: `(batch, positions, dim)`, the positions' inputs.
            state: what `init_state` or the step before returned.
        """
        x = self.around_self_attention.norm(inputs)
        return state._replace(
            positions=self.self_attention.remember(x, state.positions)
        )

    def _feed(
        self,
        x: Tensor,
        padding_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        fed = self.feed_forward(
            self.around_feed_forward.norm(x),
            mask=padding_mask,
            training=training,
        )
        return self.around_feed_forward.add(x, fed, training)

    def compute_output_spec(
        self, inputs: Tensor, memory: Tensor, *others, **named
    ) -> keras.KerasTensor:
        """Returns the spec of the output; warns of masks that were lost."""
        check_float(inputs=inputs, memory=memory)
        warn_of_lost_mask(self, inputs, named.get("padding_mask"))
        warn_of_lost_mask(self, memory, named.get("memory_mask"))
        return super().compute_output_spec(inputs, memory, *others, **named)

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
