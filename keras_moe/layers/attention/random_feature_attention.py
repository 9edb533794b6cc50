"""Attention that is linear in length, through random features."""

from typing import NamedTuple

import keras
from keras import ops

from keras_moe.layers.attention.head_projections import HeadProjections
from keras_moe.layers.attention.keras_attention import copy_projections
from keras_moe.layers.attention.keras_attention import settings_of
from keras_moe.layers.attention.random_features import SOFTMAX_MAPS
from keras_moe.layers.attention.random_features import RandomFeatures
from keras_moe.ops.exact_attention import exact_attention
from keras_moe.ops.linear_attention.bidirectional import bidirectional_attention
from keras_moe.ops.linear_attention.bidirectional import read_state
from keras_moe.ops.linear_attention.bidirectional import summarize
from keras_moe.ops.linear_attention.causal import causal_attention
from keras_moe.ops.linear_attention.segments import segment_attention
from keras_moe.ops.linear_attention.state import LinearAttentionState
from keras_moe.ops.rotary_embedding import rotary_embedding
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size


class StreamingState(NamedTuple):
    """What attention remembers of the positions so far.

    Attributes:
        position: int32 scalar, their number.
        memory: their sums, of one size however many they are.
    """

    position: Tensor
    memory: LinearAttentionState


@register
class RandomFeatureAttention(HeadProjections):
    """`keras.layers.MultiHeadAttention` in time and memory linear in length.

    Scores are not computed pair by pair: queries and keys become positive
    random features whose products are `exp(query . key / sqrt(key_dim))` in
    the mean, and keys are summed up, feature by feature, before any query
    looks at them. Sums are kept in the log domain with a maximum for each
    feature, so that results are exact for the drawn features at any scale,
    without an epsilon; what a row does not see (padding, other segments, later
    positions) changes no bit of it.

    Sources: [Choromanski et al., 2020](https://arxiv.org/abs/2009.14794);
    [Likhosherstov et al., 2022](https://arxiv.org/abs/2205.15317). For the
    features see `keras_moe.layers.RandomFeatures`.

    Args:
        num_heads: heads of the queries.
        key_dim: size of each head of queries and keys.
        num_random_features: features of each head. The variance of the
            weights falls with their number.
        feature_map: `"favor++"`, `"favor+"`, `"hyperbolic"`, `"relu"` or
            `"elu"`.
        causal: whether positions see none later. `step` needs it.
        value_dim: size of each head of values; `None` for `key_dim`.
        num_key_value_heads: heads of keys and values, where several query
            heads share one; `None` for `num_heads`.
        covariance: see `RandomFeatures`, and so `centering`, `rescaling`,
            `antithetic`, `projection`, `redraw_interval`, `momentum`, `seed`.
        centering: see `RandomFeatures`.
        rescaling: see `RandomFeatures`.
        antithetic: see `RandomFeatures`.
        projection: see `RandomFeatures`.
        redraw_interval: see `RandomFeatures`.
        momentum: see `RandomFeatures`.
        exact_below: with fewer keys than this, attention is computed exactly,
            pair by pair; `None` for never. Not where it is causal: there the
            full pass and `step` must agree.
        rotary: whether queries and keys are turned by their positions
            (`keras_moe.ops.rotary_embedding`). For self-attention.
        seed: see `RandomFeatures`.
        **kwargs: `use_bias`, `output_shape` (a number), `kernel_initializer`,
            `bias_initializer`, `kernel_regularizer`, `bias_regularizer`,
            `kernel_constraint` and `bias_constraint` as of
            `keras.layers.MultiHeadAttention`, and what all layers take.

    Call arguments:
        query: `(batch, queries, dim)`.
        value: `(batch, keys, dim)`.
        key: `(batch, keys, dim)`; `value` where it is not given.
        query_mask: bool `(batch, queries)`, false for padding; taken from
            `query` where Keras propagates one, and so the others.
        value_mask: bool `(batch, keys)`, false for padding.
        key_mask: bool `(batch, keys)`, false for padding.
        attention_mask: refused; there are no pairs that could be masked.
        return_attention_scores: refused; there are no scores.
        training: whether to gather statistics.
        use_causal_mask: whether this call is causal.
        segment_ids: int `(batch, length)` of packed sequences, for
            self-attention: positions see those of equal ids, which must be
            adjacent. 0 is padding.

    Output shape:
        `(batch, queries, dim)`. Rows that are masked, or see no key, have
        attended to nothing: zeros, before the output projection.

    Raises:
        ValueError: if an argument is out of its range, or is one that random
            features cannot serve.

    Example:

    >>> x = np.random.rand(2, 100, 32).astype("float32")
    >>> attention = keras_moe.layers.RandomFeatureAttention(
    ...     num_heads=4, key_dim=8, num_random_features=64, causal=True
    ... )
    >>> outputs = attention(x, x)
    >>> state = attention.init_state(batch_size=2)
    >>> first, state = attention.step(x[:, :1], state)
    >>> bool(np.allclose(first, outputs[:, :1], atol=1e-5))
    True
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        num_random_features: int = 256,
        feature_map: str = "favor++",
        causal: bool = False,
        value_dim: int | None = None,
        num_key_value_heads: int | None = None,
        covariance: str = "dense",
        centering: bool | None = None,
        rescaling: bool | None = None,
        antithetic: bool | None = None,
        projection: str | None = None,
        redraw_interval: int | None = 1000,
        momentum: float = 0.99,
        exact_below: int | None = None,
        rotary: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(
            num_heads,
            key_dim,
            value_dim=value_dim,
            num_key_value_heads=num_key_value_heads,
            **kwargs,
        )
        check_size(exact_below=exact_below)
        if exact_below is not None and feature_map not in SOFTMAX_MAPS:
            raise ValueError(
                "`exact_below` is for feature maps that approximate softmax, "
                f"{SOFTMAX_MAPS}. Received: feature_map={feature_map!r}."
            )
        if rotary and key_dim % 2:
            raise ValueError(
                "`key_dim` must be even for `rotary=True`. Received: "
                f"key_dim={key_dim}."
            )
        self.causal = causal
        self.exact_below = exact_below
        self.rotary = rotary
        self.features = RandomFeatures(
            num_random_features,
            feature_map,
            covariance=covariance,
            centering=centering,
            rescaling=rescaling,
            antithetic=antithetic,
            projection=projection,
            redraw_interval=redraw_interval,
            momentum=momentum,
            seed=seed,
            name="features",
        )

    def build(
        self,
        query_shape: Shape,
        value_shape: Shape,
        key_shape: Shape | None = None,
    ) -> None:
        super().build(query_shape, value_shape, key_shape)
        heads = (None, self.num_key_value_heads, 1, None, self.key_dim)
        self.features.build(heads)

    # === All positions at once ===

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
        segment_ids: Tensor | None = None,
    ) -> Tensor:
        causal = self.causal or use_causal_mask
        _refuse(attention_mask, return_attention_scores)
        one_length = causal or segment_ids is not None
        if one_length and query.shape[1] != value.shape[1]:
            raise ValueError(
                "Causal attention and `segment_ids` are for self-attention, "
                "with as many keys as queries. Received: "
                f"query.shape={tuple(query.shape)}, "
                f"value.shape={tuple(value.shape)}."
            )
        if segment_ids is not None:
            query_mask = _both(query_mask, segment_ids != 0)
            value_mask = _both(value_mask, segment_ids != 0)
        visible = _both(value_mask, key_mask)
        key = value if key is None else key
        queries = self._query_heads(_hide(query, query_mask))
        keys = self._key_heads(_hide(key, visible))
        values = self.value_heads(_hide(value, visible))
        rows, seen = _by_time(query_mask, query), _by_time(visible, key)
        segments = None
        if segment_ids is not None:
            segments = ops.cast(segment_ids, "int32")[:, None, None, :]
        attended = self._attend(queries, keys, values, seen, segments, causal)
        attended = ops.where(rows[..., None], attended, 0.0)
        if training and self.trainable:
            self.features.update(queries, keys, rows, seen)
        return self.join_heads(attended)

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        visible: Tensor,
        segment_ids: Tensor | None,
        causal: bool,
    ) -> Tensor:
        def by_features() -> Tensor:
            keys_, log_weights = self.features.keys(keys)
            inputs = (
                self.features.queries(queries),
                keys_,
                values,
                log_weights,
                visible,
                self.features.map(),
            )
            if causal:
                return causal_attention(*inputs, segment_ids)[0].mean()
            if segment_ids is not None:
                return segment_attention(*inputs, segment_ids).mean()
            return bidirectional_attention(*inputs).mean()

        def exactly() -> Tensor:
            return exact_attention(queries, keys, values, visible, segment_ids)

        length = ops.shape(keys)[3]
        if causal or self.exact_below is None:
            return by_features()
        if isinstance(length, int):
            return exactly() if length < self.exact_below else by_features()
        return ops.cond(length < self.exact_below, exactly, by_features)

    def _query_heads(self, query: Tensor, position: int | Tensor = 0) -> Tensor:
        return self._turn(self.query_heads(query), position)

    def _key_heads(self, key: Tensor, position: int | Tensor = 0) -> Tensor:
        return self._turn(self.key_heads(key), position)

    def _turn(self, heads: Tensor, position: int | Tensor) -> Tensor:
        if not self.rotary:
            return heads
        positions = ops.arange(ops.shape(heads)[3], dtype="int32") + position
        return rotary_embedding(heads, positions)

    def adapt(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
    ) -> None:
        """Fits the features to a batch, without training.

        For a layer that was converted, or whose inputs have changed. Takes
        what `call` takes.
        """
        key = value if key is None else key
        if not self.built:
            self.build(query.shape, value.shape, key.shape)
        self.features.adapt(
            self._query_heads(_hide(query, query_mask)),
            self._key_heads(_hide(key, value_mask)),
            _by_time(query_mask, query),
            _by_time(value_mask, key),
        )

    # === Step by step ===

    def init_state(
        self, batch_size: int | Tensor, max_length: int | None = None
    ) -> StreamingState:
        """Returns the state before the first position.

        Args:
            batch_size: number of rows.
            max_length: not needed; other attention layers do.
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
    ) -> tuple[Tensor, StreamingState]:
        """Computes the next positions of causal self-attention.

        Equal to `call` on all positions at once, to float precision. Time and
        memory of a step do not depend on the position.

        Args:
            query: `(batch, positions, dim)`: one token, or a prompt.
            state: what `init_state` or the step before returned.
            mask: bool `(batch, positions)`, false for padding.

        Returns:
            The output `(batch, positions, dim)` and the next state.
        """
        self._check_streams()
        query, visible = _hide(query, mask), _by_time(mask, query)
        keys, log_weights = self.features.keys(
            self._key_heads(query, state.position)
        )
        gathered, memory = causal_attention(
            self.features.queries(self._query_heads(query, state.position)),
            keys,
            self.value_heads(query),
            log_weights,
            visible,
            self.features.map(),
            initial_state=state.memory,
        )
        attended = ops.where(visible[..., None], gathered.mean(), 0.0)
        position = state.position + ops.shape(query)[1]
        return self.join_heads(attended), StreamingState(position, memory)

    def _check_streams(self) -> None:
        if not self.causal:
            raise ValueError(
                "`init_state` and `step` need `causal=True`. Received: "
                "causal=False."
            )

    # === Across ===

    def encode_memory(
        self, value: Tensor, value_mask: Tensor | None = None
    ) -> LinearAttentionState:
        """Sums up keys and values once, for all queries to come.

        Args:
            value: `(batch, keys, dim)`.
            value_mask: bool `(batch, keys)`, false for padding.
        """
        if self.exact_below is not None:
            raise ValueError(
                "A memory is one of random features: `exact_below` must be "
                f"None. Received: exact_below={self.exact_below}."
            )
        value = _hide(value, value_mask)
        keys, log_weights = self.features.keys(self._key_heads(value))
        return summarize(
            keys,
            self.value_heads(value),
            log_weights,
            _by_time(value_mask, value),
            self.features.map(),
        )

    def attend_to_memory(
        self,
        query: Tensor,
        memory: LinearAttentionState,
        training: bool | None = None,
    ) -> Tensor:
        """Returns what `call` would for the memory's keys, causal or not."""
        queries = self.features.queries(self._query_heads(query))
        gathered = read_state(memory, queries, self.features.map())
        return self.join_heads(gathered.mean())

    # === Life cycle ===

    @classmethod
    def from_multi_head_attention(
        cls, layer: keras.layers.Layer, **settings
    ) -> "RandomFeatureAttention":
        """Makes a layer with the weights of one that computes softmax.

        `adapt` then fits the features to data; training does so, too.

        Args:
            layer: a `keras.layers.MultiHeadAttention` or
                `keras.layers.GroupQueryAttention`, trained or not.
            **settings: arguments of `RandomFeatureAttention`.

        Raises:
            TypeError: if `layer` is neither.
            ValueError: if it has what random features cannot serve, such as a
                sliding window.

        Example:

        >>> x = np.random.rand(2, 100, 32).astype("float32")
        >>> exact = keras.layers.MultiHeadAttention(num_heads=4, key_dim=8)
        >>> outputs = exact(x, x)
        >>> linear = RandomFeatureAttention.from_multi_head_attention(
        ...     exact, num_random_features=512
        ... )
        >>> linear.adapt(x, x)
        >>> bool(np.abs(linear(x, x) - outputs).max() < 0.1)
        True
        """
        converted = cls(**{**settings_of(layer), **settings})
        if layer.built:
            copy_projections(layer, converted)
        return converted

    def get_config(self) -> Config:
        features = self.features.get_config()
        for name in ("name", "trainable"):
            del features[name]
        return {
            **super().get_config(),
            **quantized_dtype(self),
            **features,
            "causal": self.causal,
            "exact_below": self.exact_below,
            "rotary": self.rotary,
        }


def _refuse(attention_mask, return_attention_scores: bool) -> None:
    if attention_mask is not None:
        raise ValueError(
            "Random features have no pairs of queries and keys that "
            "`attention_mask` could mask. What they can serve: `query_mask`, "
            "`value_mask` and `key_mask` for padding, `causal=True` or "
            "`use_causal_mask=True`, and `segment_ids`. Received: "
            f"attention_mask of shape {tuple(attention_mask.shape)}."
        )
    if return_attention_scores:
        raise ValueError(
            "Random features never compute scores. Received: "
            "return_attention_scores=True."
        )


def _both(mask: Tensor | None, other: Tensor | None) -> Tensor | None:
    masks = [ops.cast(m, "bool") for m in (mask, other) if m is not None]
    return masks[0] & masks[-1] if masks else None


def _hide(x: Tensor, mask: Tensor | None) -> Tensor:
    """Returns zeros for what is masked, whatever it holds."""
    if mask is None:
        return x
    return ops.where(ops.cast(mask, "bool")[..., None], x, 0)


def _by_time(mask: Tensor | None, x: Tensor) -> Tensor:
    """Returns bool `[b, 1, 1, t]`; all of `x` is visible without a mask."""
    if mask is None:
        mask = ops.ones(ops.shape(x)[:2], dtype="bool")
    return ops.cast(mask, "bool")[:, None, None, :]
