"""Multi-head attention as T5 has it."""

import keras
from keras import ops

from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.attention._attend_heads import attend_heads
from keras_moe.layers.attention._attention_cache import AttentionCache
from keras_moe.layers.attention._attention_memory import AttentionMemory
from keras_moe.layers.attention._key_value_cache import KeyValueCache
from keras_moe.layers.attention._masks import by_time
from keras_moe.layers.attention._masks import visible_pairs
from keras_moe.ops._rotary_embedding import rotary_embedding
from keras_moe.ops._short_sequences import apply_dense
from keras_moe.ops._short_sequences import last_positions
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.serialization import sublayer_dtype
from keras_moe.types import Config
from keras_moe.types import LayoutTable
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_rate
from keras_moe.validation import check_size


@register
class T5Attention(keras.layers.Layer):
    """Multi-head attention with an additive bias and nothing else added.

    No biases in the projections and no `1 / sqrt(key_dim)`: the scale is in
    the initialiser of the query, so that published T5 weights fit.

    Source: [Raffel et al., 2019](https://arxiv.org/abs/1910.10683),
    section 2.1.

    A `keras_moe.layers.StatefulAttention`: a decoder computes position by
    position with `init_state` and `step`, and attends to an encoder's output
    with `encode_memory` and `attend_to_memory`.

    Args:
        num_heads: number of heads.
        key_dim: size of each head.
        dropout_rate: dropout of the attention weights.
        rotary: whether queries and keys are turned by their positions
            (`keras_moe.ops.rotary_embedding`). For self-attention.

    Call arguments:
        query: `(batch, queries, dim)`.
        value: `(batch, keys, dim)`.
        bias: added to the scores; broadcast to `(batch, num_heads, queries,
            keys)`.
        attention_mask: bool, `(batch, queries, keys)`, or broadcast to the same
            shape; false hides a key.
        query_mask: not needed: queries do not influence each other.
        value_mask: bool `(batch, keys)`, false for padding; taken from `value`
            where Keras propagates one.
        use_causal_mask: whether to hide later positions.
        training: whether to apply dropout.

    Output shape:
        `(batch, queries, dim)`.

    Example:

    >>> attention = keras_moe.layers.T5Attention(num_heads=2, key_dim=8)
    >>> attention(np.random.rand(1, 5, 16), np.random.rand(1, 7, 16)).shape
    TensorShape([1, 5, 16])
    """

    # Heads lie next to each other in the inner size, so "model" splits it head
    # by head.
    LAYOUT: LayoutTable = {
        "query/kernel": (None, "model"),
        "key/kernel": (None, "model"),
        "value/kernel": (None, "model"),
        "output/kernel": ("model", None),
    }

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        dropout_rate: float = 0.0,
        rotary: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size(num_heads=num_heads, key_dim=key_dim)
        check_rate(dropout_rate=dropout_rate)
        self.rotary = rotary
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.dropout_rate = dropout_rate
        self.supports_masking = True

    def build(self, query_shape: Shape, value_shape: Shape) -> None:
        dim = query_shape[-1]
        self.query = self._projection("query", 1.0 / self.key_dim)
        self.query.build(query_shape)
        self.key = self._projection("key")
        self.key.build(value_shape)
        self.value = self._projection("value")
        self.value.build(value_shape)
        self.output_projection = self._projection("output", units=dim)
        inner = self.num_heads * self.key_dim
        self.output_projection.build((*query_shape[:-1], inner))
        self.dropout = keras.layers.Dropout(
            self.dropout_rate, dtype=self.dtype_policy, name="dropout"
        )

    def _projection(
        self, name: str, scale: float = 1.0, units: int | None = None
    ) -> keras.layers.Dense:
        return keras.layers.Dense(
            units or self.num_heads * self.key_dim,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                scale, mode="fan_in", distribution="normal"
            ),
            dtype=sublayer_dtype(self, name),
            name=name,
        )

    def call(
        self,
        query: Tensor,
        value: Tensor,
        bias: Tensor | None = None,
        attention_mask: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        use_causal_mask: bool = False,
        training: bool | None = None,
    ) -> Tensor:
        check_float(query=query, value=value)
        lengths = (ops.shape(query)[1], ops.shape(value)[1])
        visible = visible_pairs(
            attention_mask, value_mask, lengths if use_causal_mask else None
        )
        return self.attend(
            self.query_heads(query),
            *self.key_value_heads(value),
            bias=bias,
            attention_mask=visible,
            training=training,
        )

    def compute_output_spec(
        self, query: Tensor, value: Tensor, *others, **named
    ) -> keras.KerasTensor:
        """Returns the spec of the output; warns of a mask that was lost."""
        check_float(query=query, value=value)
        if named.get("attention_mask") is None:
            warn_of_lost_mask(self, value, named.get("value_mask"))
        return super().compute_output_spec(query, value, *others, **named)

    # === Step by step ===

    def init_state(
        self,
        batch_size: int | Tensor,
        max_length: int | None = None,
        cache: type[AttentionCache] = KeyValueCache,
    ) -> AttentionCache:
        """Returns the state before the first position.

        Args:
            batch_size: number of rows.
            max_length: number of positions to allot.
            cache: how positions are kept.

        Raises:
            ValueError: if `max_length` is not a positive integer.
        """
        if max_length is None:
            raise ValueError(
                "`max_length` must be given: attention over all positions "
                "allots room for them. Received: max_length=None."
            )
        check_size(max_length=max_length)
        return cache.empty(
            batch_size,
            self.num_heads,
            max_length,
            self.key_dim,
            self.compute_dtype,
        )

    def step(
        self,
        query: Tensor,
        state: AttentionCache,
        bias: Tensor | None = None,
        num_queries: int | None = None,
    ) -> tuple[Tensor, AttentionCache]:
        """Computes the next positions of causal self-attention.

        Args:
            query: `(batch, positions, dim)`: one token, or several.
            state: what `init_state` or the step before returned.
            bias: added to the scores, `(num_heads, queries, max_length)`.
            num_queries: for how many of the positions, the last ones, the
                output is wanted; `None` for all, whose number must then be
                static.

        Returns:
            The output `(batch, queries, dim)` and the next state.
        """
        before, state = state, self.remember(query, state)
        count = num_queries or query.shape[1]
        # If all positions are queries, `first` is the very tensor that the keys
        # were turned by, so that the angles are computed once.
        first = before.position
        if query.shape[1] != count:
            first = state.position - count
        keys, values, visible = state.read(count)
        if visible is not None:
            visible = ops.expand_dims(visible, (0, 1))
        attended = self.attend(
            self.query_heads(last_positions(query, count), first),
            keys,
            values,
            bias=None if bias is None else bias[..., : ops.shape(keys)[2]],
            attention_mask=visible,
        )
        return attended, state

    def remember(self, query: Tensor, state: AttentionCache) -> AttentionCache:
        """Returns the state after positions whose output nobody wants.

        Args:
            query: `(batch, positions, dim)`.
            state: what `init_state` or the step before returned.
        """
        return state.append(*self.key_value_heads(query, state.position))

    # === Across ===

    def encode_memory(
        self, value: Tensor, value_mask: Tensor | None = None
    ) -> AttentionMemory:
        """Projects keys and values once, for all queries to come.

        Args:
            value: `(batch, keys, dim)`.
            value_mask: bool `(batch, keys)`, false for padding.
        """
        if value_mask is None:
            value_mask = ops.ones(ops.shape(value)[:2], dtype="bool")
        keys, values = self.key_value_heads(value)
        return AttentionMemory(ops.swapaxes(keys, 2, 3), values, value_mask)

    def attend_to_memory(
        self,
        query: Tensor,
        memory: AttentionMemory,
        training: bool | None = None,
    ) -> Tensor:
        """Returns what `call` would for the memory's keys."""
        return self.attend(
            self.query_heads(query),
            memory.keys,
            memory.values,
            attention_mask=by_time(memory.mask),
            training=training,
            keys_are_turned=True,
        )

    # === Parts ===

    def query_heads(self, query: Tensor, position: int | Tensor = 0) -> Tensor:
        """Returns `(batch, num_heads, queries, key_dim)`.

        Args:
            query: `(batch, queries, dim)`.
            position: of the first query.
        """
        heads = self._split_heads(apply_dense(self.query, query))
        return self._turn(heads, position)

    def key_value_heads(
        self, value: Tensor, position: int | Tensor = 0
    ) -> tuple[Tensor, Tensor]:
        """Returns keys and values, `(batch, num_heads, keys, key_dim)`."""
        keys = self._split_heads(apply_dense(self.key, value))
        values = self._split_heads(apply_dense(self.value, value))
        return self._turn(keys, position), values

    def _turn(self, heads: Tensor, position: int | Tensor) -> Tensor:
        if not self.rotary:
            return heads
        positions = ops.arange(ops.shape(heads)[2], dtype="int32") + position
        return rotary_embedding(heads, positions)

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None = None,
        attention_mask: Tensor | None = None,
        training: bool | None = None,
        keys_are_turned: bool = False,
    ) -> Tensor:
        """Attends with projected heads; returns `(batch, queries, dim)`."""
        heads = attend_heads(
            queries,
            keys,
            values,
            bias,
            attention_mask,
            lambda weights: self.dropout(weights, training=training),
            keys_are_turned,
        )
        return apply_dense(self.output_projection, self._join_heads(heads))

    def _split_heads(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:
            # For a single position a transposition would only be a copy.
            return ops.reshape(x, (-1, self.num_heads, 1, self.key_dim))
        batch, length = ops.shape(x)[:2]
        x = ops.reshape(x, (batch, length, self.num_heads, self.key_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    def _join_heads(self, heads: Tensor) -> Tensor:
        inner = self.num_heads * self.key_dim
        if heads.shape[2] == 1:
            return ops.reshape(heads, (-1, 1, inner))
        heads = ops.transpose(heads, (0, 2, 1, 3))
        batch, length = ops.shape(heads)[:2]
        return ops.reshape(heads, (batch, length, inner))

    def compute_output_shape(
        self, query_shape: Shape, value_shape: Shape
    ) -> Shape:
        return tuple(query_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **quantized_dtype(self),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "dropout_rate": self.dropout_rate,
            "rotary": self.rotary,
        }
