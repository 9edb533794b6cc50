"""Attention with random features, position by position."""

from typing import NamedTuple

import keras
from keras import ops

from keras_moe.layers.attention._attend import break_even
from keras_moe.layers.attention._attend import either
from keras_moe.layers.attention._attend import is_short
from keras_moe.layers.attention._attention_cache import AttentionCache
from keras_moe.layers.attention._feature_memory import FeatureMemory
from keras_moe.layers.attention._head_projections import HeadProjections
from keras_moe.layers.attention._masks import by_time
from keras_moe.layers.attention._masks import refuse_bias
from keras_moe.layers.attention._masks import zero_rows
from keras_moe.layers.attention._masks import zero_where_masked
from keras_moe.layers.attention._random_features import RandomFeatures
from keras_moe.ops._rotary_embedding import rotary_embedding
from keras_moe.ops.linear_attention._bidirectional import read_state
from keras_moe.ops.linear_attention._bidirectional import summarize
from keras_moe.ops.linear_attention._causal import causal_attention
from keras_moe.ops.linear_attention._exact_attention import exact_attention
from keras_moe.ops.linear_attention._state import LinearAttentionState
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.weights._own_metrics import own_metrics


class StreamingState(NamedTuple):
    """The state of attention that sums up the positions so far.

    Attributes:
        position: int32 scalar, the number of positions.
        memory: sums over the positions, of a size that does not grow.
    """

    position: Tensor
    memory: LinearAttentionState


class FeatureHeads(HeadProjections):
    """Attention position by position, and to an encoder's output.

    Keys are summed up: the state does not grow with the positions.

    Args:
        features: the random features.
        causal: whether positions see no later ones.
        rotary: whether heads are turned by their positions.
        exact_below: see `RandomFeatureAttention`.
        **kwargs: see `HeadProjections`.
    """

    def __init__(
        self,
        features: RandomFeatures,
        *,
        causal: bool,
        rotary: bool,
        exact_below: int | str | None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if rotary and self.key_dim % 2:
            raise ValueError(
                "`key_dim` must be even for `rotary=True`. Received: "
                f"key_dim={self.key_dim}."
            )
        self.features = features
        self.causal = causal
        self.rotary = rotary
        self.exact_below = exact_below
        self._break_even = break_even(exact_below, features)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The layer's own metrics, none: the variance is its features'.

        A model would list it once for each layer that it lies in.
        """
        return own_metrics(self)

    def build(
        self,
        query_shape: Shape,
        value_shape: Shape,
        key_shape: Shape | None = None,
    ) -> None:
        super().build(query_shape, value_shape, key_shape)
        heads = (None, self.num_key_value_heads, 1, None, self.key_dim)
        self.features.build(heads)

    def turned_query_heads(
        self, query: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """Returns `query_heads`, turned by their positions if `rotary`.

        Args:
            query: `(batch, queries, dim)`.
            positions: int `(queries,)` or `(batch, queries)`; `None` for 0, 1,
                2, ...
        """
        return self._turn(self.query_heads(query), positions)

    def turned_key_heads(
        self, key: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """Returns `key_heads`, turned by their positions if `rotary`."""
        return self._turn(self.key_heads(key), positions)

    def _turn(self, heads: Tensor, positions: Tensor | None) -> Tensor:
        if not self.rotary:
            return heads
        if positions is None:
            positions = ops.arange(ops.shape(heads)[3], dtype="int32")
        elif len(positions.shape) == 2:
            positions = positions[:, None, None, :]
        return rotary_embedding(heads, positions)

    # === Step by step ===

    def init_state(
        self,
        batch_size: int | Tensor,
        max_length: int | None = None,
        cache: type[AttentionCache] | None = None,
    ) -> StreamingState:
        """Returns the state before the first position.

        Args:
            batch_size: number of rows.
            max_length: not needed: the state does not grow.
            cache: not needed: no position is kept by itself.
        """
        self._check_streams()
        memory = LinearAttentionState.empty(
            (batch_size, self.num_key_value_heads, 1),
            self.features.num_random_features,
            self.value_dim,
        )
        return StreamingState(ops.zeros((), dtype="int32"), memory)

    def step(
        self,
        query: Tensor,
        state: StreamingState,
        mask: Tensor | None = None,
        num_queries: int | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, StreamingState]:
        """Computes the next positions of causal self-attention.

        Equal to `call` on all positions at once, to float precision. Time and
        memory of a step do not depend on the position. No gradient flows into
        the steps before.

        Args:
            query: `(batch, positions, dim)`: one token, or a prompt.
            state: what `init_state` or the step before returned.
            mask: bool `(batch, positions)`, false for padding; none is taken
                from the inputs.
            num_queries: for how many of the positions, the last ones, the
                output is wanted; `None` for all.
            bias: refused; there are no scores that it could be added to.

        Returns:
            The output `(batch, queries, dim)` and the next state.
        """
        refuse_bias(bias)
        self._check_streams()
        if not self.built:
            self.build(query.shape, query.shape)
        query, visible = zero_where_masked(query, mask), by_time(mask)
        count = ops.shape(query)[1]
        positions = state.position + ops.arange(count, dtype="int32")
        gathered, memory = causal_attention(
            self.turned_query_heads(query, positions),
            self.turned_key_heads(query, positions),
            self.value_heads(query),
            visible,
            self.features.map(),
            initial_state=state.memory,
        )
        attended = zero_rows(gathered.mean(), visible)
        after = StreamingState(state.position + count, memory)
        if num_queries is not None:
            attended = attended[..., -num_queries:, :]
        return self.join_heads(attended), after

    def remember(self, query: Tensor, state: StreamingState) -> StreamingState:
        """Returns the state after positions whose output nobody wants.

        Args:
            query: `(batch, positions, dim)`.
            state: what `init_state` or the step before returned.
        """
        count = ops.shape(query)[1]
        positions = state.position + ops.arange(count, dtype="int32")
        new = summarize(
            self.turned_key_heads(query, positions),
            self.value_heads(query),
            None,
            self.features.map(),
        )
        return StreamingState(state.position + count, state.memory.merge(new))

    def _check_streams(self) -> None:
        if not self.causal:
            raise ValueError(
                "`init_state` and `step` need `causal=True`. Received: "
                "causal=False."
            )

    # === Across ===

    def encode_memory(
        self, value: Tensor, value_mask: Tensor | None = None
    ) -> FeatureMemory:
        """Projects keys and values once, for all queries to come.

        They are summed up, and kept as well where attention to as many is
        exact.

        Args:
            value: `(batch, keys, dim)`.
            value_mask: bool `(batch, keys)`, false for padding.
        """
        if not self.built:
            raise ValueError(
                "The layer must be built before it encodes a memory, which "
                "does not tell the size of queries. Call it or `build` it "
                "first."
            )
        value, mask = zero_where_masked(value, value_mask), by_time(value_mask)
        keys, values = self.turned_key_heads(value), self.value_heads(value)
        sums = summarize(keys, values, mask, self.features.map())
        if mask is None:
            mask = ops.ones_like(keys[:, :1, :, :, 0], dtype="bool")
        kept = is_short(keys, self._break_even)
        if isinstance(kept, bool):
            length = None if kept else 0
        else:
            length = ops.where(kept, ops.shape(keys)[3], 0)
        return FeatureMemory(
            sums,
            keys[..., :length, :],
            values[..., :length, :],
            mask[..., :length],
        )

    def attend_to_memory(
        self,
        query: Tensor,
        memory: FeatureMemory,
        training: bool | None = None,
    ) -> Tensor:
        """Returns what `call` would for the memory's keys, causal or not."""
        queries = self.turned_query_heads(query)
        attended = either(
            ops.shape(memory.keys)[3] > 0,
            lambda: exact_attention(queries, *memory[1:]),
            lambda: read_state(memory.sums, queries, self.features.map()),
        )
        return self.join_heads(attended)
