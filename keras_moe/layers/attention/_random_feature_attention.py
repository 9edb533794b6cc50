"""Attention that is linear in length, through random features."""

import keras
from keras import ops

from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.attention._attend import AUTO
from keras_moe.layers.attention._attend import attend
from keras_moe.layers.attention._feature_heads import FeatureHeads
from keras_moe.layers.attention._feature_noise import warn_of_noisy_features
from keras_moe.layers.attention._feature_noise import warn_of_projections
from keras_moe.layers.attention._keras_attention import copy_projections
from keras_moe.layers.attention._keras_attention import settings_of
from keras_moe.layers.attention._masks import by_time
from keras_moe.layers.attention._masks import check_call
from keras_moe.layers.attention._masks import intersect_masks
from keras_moe.layers.attention._masks import zero_rows
from keras_moe.layers.attention._masks import zero_where_masked
from keras_moe.layers.attention._random_features import RandomFeatures
from keras_moe.ops._segment_positions import segment_positions
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor


@register
class RandomFeatureAttention(FeatureHeads):
    """`keras.layers.MultiHeadAttention` in time and memory linear in length.

    Scores are not computed pair by pair: queries and keys become positive
    random features whose products are `exp(query . key / sqrt(key_dim))` in
    the mean, and keys are summed up, feature by feature, before any query
    looks at them. Sums are kept in the log domain with a maximum for each
    feature, so that results are exact for the drawn features at any scale,
    without an epsilon; what a row does not see (padding, other segments, later
    positions) changes no bit of it. The layer is a
    `keras_moe.layers.StatefulAttention`, whose state does not grow.

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
        causal: whether positions see no later ones. `step` needs it.
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
        exact_below: with fewer keys than this, padding included, attention is
            computed exactly, pair by pair, which is faster there. `"auto"` for
            the measured break-even, four keys a feature and at most 2,048;
            `None` for never, where rows must not depend on how far their batch
            is padded. Causal attention ignores this, since the full pass and
            `step` must agree; so do programs that XLA compiles for a length
            that was not known when they were traced.
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
        bias: refused; there are no scores that it could be added to.
        segment_ids: int `(batch, length)` of packed sequences, for
            self-attention: positions see those of equal ids, which must be
            adjacent. 0 is padding. Rotary positions begin anew with each.

    Unlike `keras.layers.MultiHeadAttention`:
        Causal attention needs as many keys as queries. No weights are dropped.
        Between the projections all is float32. Masked padding may be NaN; what
        causality or other segments hide must be finite.

    Metrics:
        `relative_variance`, of `features.relative_variance`: the predicted
        variance of the kernel for the worst head over its square; its root is
        about the error of outputs over their size. Above 0.1 it warns after
        epochs; `adapt`, conversion and `serving.export` do too.

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
        exact_below: int | str | None = AUTO,
        rotary: bool = False,
        seed: int | None = None,
        **kwargs,
    ):
        features = RandomFeatures(
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
        super().__init__(
            features,
            causal=causal,
            rotary=rotary,
            exact_below=exact_below,
            num_heads=num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            num_key_value_heads=num_key_value_heads,
            **kwargs,
        )

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
        bias: Tensor | None = None,
    ) -> Tensor:
        causal = self.causal or use_causal_mask
        check_call(
            query,
            value,
            key,
            attention_mask,
            return_attention_scores,
            one_length=causal or segment_ids is not None,
            bias=bias,
        )
        positions = segments = None
        if segment_ids is not None:
            real = ops.cast(segment_ids, "int32") != 0
            query_mask = intersect_masks(query_mask, real)
            value_mask = intersect_masks(value_mask, real)
            numbers, positions = segment_positions(segment_ids)
            segments = numbers[:, None, None, :]
        visible = intersect_masks(value_mask, key_mask)
        key = value if key is None else key
        queries = self.turned_query_heads(
            zero_where_masked(query, query_mask), positions
        )
        keys = self.turned_key_heads(zero_where_masked(key, visible), positions)
        values = self.value_heads(zero_where_masked(value, visible))
        rows, seen = by_time(query_mask), by_time(visible)
        attended = attend(
            self.features,
            queries,
            keys,
            values,
            seen,
            segments,
            causal=causal,
            exact_below=self._break_even,
        )
        attended = zero_rows(attended, rows)
        if training and self.trainable and self.features.trainable:
            self.features.update(queries, keys, rows, seen)
        return self.join_heads(attended)

    def compute_output_spec(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
        segment_ids: Tensor | None = None,
        bias: Tensor | None = None,
        **_others,
    ) -> keras.KerasTensor:
        """Returns the spec of the output; refuses what `call` would."""
        warn_of_lost_mask(self, value, value_mask, key_mask, segment_ids)
        check_call(
            query,
            value,
            key,
            attention_mask,
            return_attention_scores,
            self.causal or use_causal_mask or segment_ids is not None,
            bias,
        )
        shape = self.compute_output_shape(query.shape, value.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def adapt(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
    ) -> None:
        """Fits the features to a batch, without training.

        For a layer that was converted, or whose inputs have changed. Arguments
        are those of `call`; masks must be given: Keras hands on none. Raises
        `ValueError` for what is not finite, or all padding.
        """
        key = value if key is None else key
        value_mask = intersect_masks(value_mask, key_mask)
        if not self.built:
            self.build(query.shape, value.shape, key.shape)
        self.features.adapt(
            self.turned_query_heads(zero_where_masked(query, query_mask)),
            self.turned_key_heads(zero_where_masked(key, value_mask)),
            by_time(query_mask),
            by_time(value_mask),
        )
        warn_of_noisy_features(self.features)

    # === Life cycle ===

    @classmethod
    def from_multi_head_attention(
        cls, layer: keras.layers.Layer, **settings
    ) -> "RandomFeatureAttention":
        """Makes a layer with the weights of one that computes softmax.

        `adapt` or training then fits the features to data.

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
        ...     exact, num_random_features=512, exact_below=None
        ... )
        >>> linear.adapt(x, x)
        >>> bool(np.abs(linear(x, x) - outputs).max() < 0.1)
        True
        """
        converted = cls(**{**settings_of(layer), **settings})
        if layer.built:
            copy_projections(layer, converted)
            warn_of_projections(converted, converted.features)
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
