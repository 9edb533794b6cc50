"""Attention whose weights do not depend on the scale of its projections."""

import keras
from keras import ops

from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.attention._head_projections import HeadProjections
from keras_moe.layers.attention._masks import by_time
from keras_moe.layers.attention._masks import intersect_masks
from keras_moe.layers.attention._masks import refuse
from keras_moe.layers.attention._masks import visible_pairs
from keras_moe.layers.attention._masks import zero_rows
from keras_moe.layers.attention._masks import zero_where_masked
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor

_NO_BIAS = (
    "`bias` must be None: added to scores, it would make the output depend on "
    "the scale of the weights. Add positions to the embeddings."
)


@register
class ScaleInvariantAttention(HeadProjections):
    """Multi-head attention with `relu` over its sum in place of softmax.

    The weights of a query are `relu(score - mean)` over their sum, with scores
    `query . key` and their mean over the keys that the query sees. Multiplying
    all projections by a number leaves the weights as they are, and multiplies
    the output by its square.

    The mean is not in the paper, which `center_scores=False` follows. Without
    it, queries may lose all keys: where no score is positive there is no
    gradient either, and the attention stays dead. In our trials, up to 98 % of
    queries went that way, and the loss with them.

    When, and when not: in `keras_moe.layers.ScaleInvariantBlock`, for training
    with `keras_moe.optimizers.RelativeClipSGD`. Elsewhere softmax is the better
    known choice. The layer reads all pairs of positions. Experimental.

    Source: [Li et al., 2022](https://arxiv.org/abs/2202.00980), section 4.

    Args:
        num_heads: heads of the queries.
        key_dim: size of each head of queries and keys.
        center_scores: whether the mean of a query's scores is subtracted.
        **kwargs: `value_dim`, `num_key_value_heads`, `output_shape` (a
            number), `kernel_initializer`, `kernel_regularizer` and
            `kernel_constraint` as of `keras.layers.MultiHeadAttention`, and
            what all layers take. There are no biases, by which the output
            would depend on the scale in another way.

    Call arguments:
        query: `(batch, queries, dim)`.
        value: `(batch, keys, dim)`.
        key: `(batch, keys, dim)`; `value` where it is not given.
        query_mask: bool `(batch, queries)`, false for padding; taken from
            `query` where Keras propagates one, and so the others.
        value_mask: bool `(batch, keys)`, false for padding.
        key_mask: bool `(batch, keys)`, false for padding.
        attention_mask: bool, `(batch, queries, keys)`, or broadcast to `(batch,
            heads, queries, keys)`.
        use_causal_mask: whether positions see no later ones.
        bias: refused; scores are of a degree that a bias is not.
        training: unused.

    Output shape:
        `(batch, queries, dim)`. A query that is masked or sees no key attends
        to nothing: zeros; so does one without a positive score, where scores
        are not centered. Where they are, equal scores get equal weights.

    Raises:
        ValueError: if an argument is out of its range, or there is a `bias`.

    Example:

    >>> attention = keras_moe.layers.ScaleInvariantAttention(2, key_dim=4)
    >>> x = np.random.rand(1, 5, 8)
    >>> attention(x, x).shape
    TensorShape([1, 5, 8])
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        center_scores: bool = True,
        **kwargs,
    ):
        if kwargs.pop("use_bias", False):
            raise ValueError(
                "`use_bias` must be false: with biases the output depends on "
                "the scale of the weights. Received: use_bias=True."
            )
        super().__init__(num_heads, key_dim, use_bias=False, **kwargs)
        self.center_scores = center_scores

    def call(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        use_causal_mask: bool = False,
        bias: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        check_float(query=query, value=value, key=key)
        refuse(_NO_BIAS, bias=bias)
        key = value if key is None else key
        seen = intersect_masks(value_mask, key_mask)
        lengths = (ops.shape(query)[1], ops.shape(value)[1])
        visible = visible_pairs(
            attention_mask, seen, lengths if use_causal_mask else None
        )
        if visible is None:
            visible = ops.ones((1, 1, *lengths), "bool")
        queries = self.query_heads(zero_where_masked(query, query_mask))
        keys = self.key_heads(zero_where_masked(key, seen))
        values = self.value_heads(zero_where_masked(value, seen))
        scores = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
        shape = ops.shape(scores)  # [b, n, g, t, s]
        # [b, n * g, t, s], as masks of heads are
        flat = ops.reshape(scores, (shape[0], self.num_heads, *shape[3:]))
        if self.center_scores:
            flat = centered(flat, visible)
        weights = over_sum(ops.where(visible, ops.relu(flat), 0.0))
        attended = ops.matmul(ops.reshape(weights, shape), values)
        return self.join_heads(zero_rows(attended, by_time(query_mask)))

    @property
    def head_dtype(self) -> str:
        """Float32, or float64 where that is the policy."""
        return keras.backend.result_type(self.compute_dtype, "float32")

    def compute_output_spec(self, query: Tensor, value: Tensor, *args, **named):
        """Returns the spec of the output; refuses what `call` would."""
        check_float(query=query, value=value)
        refuse(_NO_BIAS, bias=named.get("bias"))
        if named.get("attention_mask") is None:
            warn_of_lost_mask(self, value, named.get("value_mask"))
        return super().compute_output_spec(query, value, *args, **named)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **quantized_dtype(self),
            "center_scores": self.center_scores,
        }


def centered(scores: Tensor, visible: Tensor) -> Tensor:
    """Returns scores less their mean; ones where all of a row are equal.

    Args:
        scores: `[..., s]`.
        visible: bool, broadcast to it: what the mean is taken over.
    """
    count = ops.sum(ops.cast(visible, scores.dtype), axis=-1, keepdims=True)
    # Shares are summed, and not divided after: a sum could overflow.
    shares = ops.where(visible, scores / ops.maximum(count, 1.0), 0.0)
    scores = scores - ops.sum(shares, axis=-1, keepdims=True)
    most = ops.max(
        ops.where(visible, scores, 0.0), axis=-1, keepdims=True, initial=0
    )
    # A query that sees one key, say the first of a causal mask, attends to it.
    return ops.where(most > 0, scores, 1.0)


def over_sum(x: Tensor) -> Tensor:
    """Returns rows over their sums; a row of zeros stays one.

    Without an epsilon, by which the result would depend on the scale. The
    largest of a row is divided by first: sums neither overflow nor vanish.

    Args:
        x: `[..., n]`, not negative.
    """
    # Of an empty batch there is a maximum only with `initial`.
    largest = ops.max(x, axis=-1, keepdims=True, initial=0)
    # The quotient does not depend on it: neither does a gradient.
    largest = ops.stop_gradient(ops.where(largest > 0, largest, 1.0))
    x = x / largest
    total = ops.sum(x, axis=-1, keepdims=True)
    return x / ops.where(total > 0, total, 1.0)
