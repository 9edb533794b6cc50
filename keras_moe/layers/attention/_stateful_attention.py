"""The contract of attention that a decoder block can run step by step."""

from typing import Any
from typing import Protocol
from typing import runtime_checkable

from keras_moe.layers.attention._attention_cache import AttentionCache
from keras_moe.layers.attention._key_value_cache import KeyValueCache
from keras_moe.types import Shape
from keras_moe.types import Tensor


@runtime_checkable
class StatefulAttention(Protocol):
    """Attention that computes all positions at once, or one after the other.

    `keras_moe.layers.T5Attention` and `keras_moe.layers.RandomFeatureAttention`
    fulfil it. Both ways give the same outputs, to float precision. What the
    state and the memory consist of is the layer's own affair; the first axis of
    their tensors is the batch, and scalars belong to all rows.

    A layer whose scores do not exist pair by pair takes a `bias` of `None` and
    refuses any other.

    Example:

    >>> attention = keras_moe.layers.T5Attention(num_heads=2, key_dim=4)
    >>> isinstance(attention, keras_moe.layers.StatefulAttention)
    True
    >>> attention = keras.layers.MultiHeadAttention(num_heads=2, key_dim=4)
    >>> isinstance(attention, keras_moe.layers.StatefulAttention)
    False
    """

    def build(self, query_shape: Shape, value_shape: Shape) -> None:
        """Makes the weights.

        Args:
            query_shape: of the queries.
            value_shape: of the keys and values.
        """

    def __call__(
        self,
        query: Tensor,
        value: Tensor,
        *,
        bias: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        use_causal_mask: bool = False,
        training: bool | None = None,
    ) -> Tensor:
        """Computes all positions at once.

        Args:
            query: `(batch, queries, dim)`.
            value: `(batch, keys, dim)`.
            bias: added to the scores, `(num_heads, queries, keys)`.
            query_mask: bool `(batch, queries)`, false for padding.
            value_mask: bool `(batch, keys)`, false for padding.
            use_causal_mask: whether to hide later positions.
            training: whether to train.

        Returns:
            `(batch, queries, dim)`.
        """

    # === Step by step ===

    def init_state(
        self,
        batch_size: int | Tensor,
        max_length: int | None = None,
        cache: type[AttentionCache] = KeyValueCache,
    ) -> Any:
        """Returns the state before the first position.

        Args:
            batch_size: number of rows.
            max_length: number of positions to allot, for layers that must know.
            cache: how layers that keep all positions keep them.
        """

    def step(
        self,
        query: Tensor,
        state: Any,
        *,
        bias: Tensor | None = None,
        num_queries: int | None = None,
    ) -> tuple[Tensor, Any]:
        """Computes the next positions of causal self-attention.

        Args:
            query: `(batch, positions, dim)`: one token, or several.
            state: what `init_state` or the step before returned.
            bias: added to the scores, `(num_heads, queries, max_length)`.
            num_queries: for how many of the positions, the last ones, the
                output is wanted; `None` for all.

        Returns:
            The output `(batch, queries, dim)` and the next state.
        """

    def remember(self, query: Tensor, state: Any) -> Any:
        """Returns the state after positions whose output nobody wants.

        Args:
            query: `(batch, positions, dim)`.
            state: what `init_state` or the step before returned.
        """

    # === Across ===

    def encode_memory(
        self, value: Tensor, value_mask: Tensor | None = None
    ) -> Any:
        """Returns what queries to come need of an encoder's output.

        Args:
            value: `(batch, keys, dim)`.
            value_mask: bool `(batch, keys)`, false for padding.
        """

    def attend_to_memory(
        self, query: Tensor, memory: Any, training: bool | None = None
    ) -> Tensor:
        """Returns what `__call__` would for the memory's keys.

        Args:
            query: `(batch, queries, dim)`.
            memory: what `encode_memory` returned.
            training: whether to train.
        """
