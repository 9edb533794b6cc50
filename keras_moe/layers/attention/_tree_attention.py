"""Attention that goes by a decision tree, in time linear in length."""

import keras
from keras import ops

from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._lost_masks import warn_of_lost_mask
from keras_moe.layers.attention._head_projections import HeadProjections
from keras_moe.layers.attention._keras_attention import copy_projections
from keras_moe.layers.attention._keras_attention import settings_of
from keras_moe.layers.attention._masks import by_time
from keras_moe.layers.attention._masks import intersect_masks
from keras_moe.layers.attention._masks import refuse
from keras_moe.layers.attention._masks import zero_rows
from keras_moe.layers.attention._masks import zero_where_masked
from keras_moe.layers.attention._tree_paths import leaf_attention
from keras_moe.layers.attention._tree_paths import leaf_membership
from keras_moe.layers.attention._tree_paths import path_attention
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size

_NO_PAIRS = (
    "`{name}` must be left out: a tree has no pairs of queries and keys. It "
    "has `query_mask`, `value_mask` and `key_mask`."
)


@register
class TreeAttention(HeadProjections):
    """Attention to the keys that a decision tree puts where it puts the query.

    Each head has a complete binary tree. A node asks for the sign of a linear
    function, of queries and keys alike; so each comes to a leaf, by a path.
    The output is a mean over the levels of the path, with trained weights: at
    each level, the mean of the values of all keys that pass the same node. It
    costs two products with the leaves, linear in length and with shapes that
    do not depend on the data. Decisions are hard, and their gradient is that of
    a sigmoid (straight-through).

    With `leaf_only`, a query attends by softmax to the keys in its leaf. All
    pairs are computed: a way to look at a tree, not to save time.

    When, and when not: to try whether few clusters of keys do for a task, on
    long sequences read both ways. Values of a node count alike, whatever their
    score: where single keys must be told apart, softmax is better, and
    `keras_moe.layers.RandomFeatureAttention`, which is linear, too. The paper
    starts from a dense model, converts a layer at a time from the top, and lets
    trees `grow` (`keras_moe.conversion.tree_attention`); on the means of
    clusters of `python -m benchmarks.article` trees from nothing did better.
    Experimental.

    Source: following [Treeformer, Madaan et al., 2022](
    https://arxiv.org/abs/2208.09015): its TC attention, and TF attention for
    `leaf_only`. No code was published.

    Args:
        num_heads: number of heads, and of trees.
        key_dim: size of each head of queries and keys.
        height: levels of decisions; a tree has `2**height` leaves.
        grown_height: how many of these levels decide at first; `None` for all.
            At the others all go one way, until `grow` is called.
        leaf_only: whether to attend to the leaf alone.
        **kwargs: `value_dim`, `use_bias`, `output_shape` (a number),
            `kernel_initializer`, `bias_initializer`, `kernel_regularizer`,
            `bias_regularizer`, `kernel_constraint` and `bias_constraint` as of
            `keras.layers.MultiHeadAttention`, and what all layers take.

    Call arguments:
        query: `(batch, queries, dim)`.
        value: `(batch, keys, dim)`.
        key: `(batch, keys, dim)`; `value` where it is not given.
        query_mask: bool `(batch, queries)`, false for padding; taken from
            `query` where Keras propagates one, and so the others.
        value_mask: bool `(batch, keys)`, false for padding.
        key_mask: bool `(batch, keys)`, false for padding.
        bias, attention_mask, return_attention_scores, use_causal_mask:
            refused; there are no pairs.
        training: unused.

    Output shape:
        `(batch, queries, dim)`. A level of which the node has no key, such as
        an empty leaf, is left out of the mean; a query that is masked, sees no
        key, or with `leaf_only` has an empty leaf, attends to nothing: zeros,
        before the output projection.

    Raises:
        ValueError: if an argument is out of its range or refused.

    Example:

    >>> attention = keras_moe.layers.TreeAttention(2, key_dim=4, height=3)
    >>> x = np.random.rand(1, 50, 8)
    >>> attention(x, x).shape
    TensorShape([1, 50, 8])
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        height: int = 5,
        grown_height: int | None = None,
        leaf_only: bool = False,
        **kwargs,
    ):
        super().__init__(num_heads, key_dim, **kwargs)
        check_size(height=height)
        grown_height = height if grown_height is None else grown_height
        if not 0 <= grown_height <= height:
            raise ValueError(
                "`grown_height` must be from 0 to `height`. Received: "
                f"grown_height={grown_height}, height={height}."
            )
        if self.num_key_value_heads != self.num_heads:
            raise ValueError(
                "`num_key_value_heads` must be `num_heads`: each head has a "
                "tree of its own. Received: num_key_value_heads="
                f"{self.num_key_value_heads}, num_heads={num_heads}."
            )
        self.height = height
        self.leaf_only = leaf_only
        self._first_height = grown_height

    def build(
        self,
        query_shape: Shape,
        value_shape: Shape,
        key_shape: Shape | None = None,
    ) -> None:
        super().build(query_shape, value_shape, key_shape)
        nodes = 2**self.height - 1
        self.tree_kernel = self.add_weight(
            name="tree_kernel",
            shape=(self.num_heads, self.key_dim, nodes),
            initializer=keras.initializers.RandomNormal(self.key_dim**-0.5),
        )
        self.tree_bias = self.add_weight(
            name="tree_bias",
            shape=(self.num_heads, nodes),
            initializer="zeros",
        )
        self.level_logits = self.add_weight(
            name="level_logits",
            shape=(self.num_heads, self.height + 1),
            initializer="zeros",
        )
        self.grown = self.add_weight(
            name="grown",
            shape=(),
            dtype="int32",
            initializer=keras.initializers.Constant(self._first_height),
            trainable=False,
        )

    @property
    def grown_height(self) -> int:
        """How many levels decide."""
        return int(self.grown) if self.built else self._first_height

    def grow(self) -> int:
        """Lets one more level decide; what is above stays.

        Returns:
            How many levels decide now.

        Raises:
            RuntimeError: if the layer is not built, or frozen.
            ValueError: if all levels do already.
        """
        if not self.built or not self.trainable:
            state = "is not built" if not self.built else "is frozen"
            raise RuntimeError(
                f"A tree grows when its layer is built and trainable. "
                f"{self.name!r} {state}."
            )
        if self.grown_height == self.height:
            raise ValueError(
                "The tree must have a level that does not decide yet. Received:"
                f" grown_height={self.height}, height={self.height}."
            )
        self.grown.assign(self.grown + 1)
        return self.grown_height

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
        bias: Tensor | None = None,
    ) -> Tensor:
        check_float(query=query, value=value, key=key)
        refuse(
            _NO_PAIRS,
            attention_mask=attention_mask,
            return_attention_scores=return_attention_scores,
            use_causal_mask=use_causal_mask,
            bias=bias,
        )
        key = value if key is None else key
        seen = intersect_masks(value_mask, key_mask)
        queries, keys, values = (
            ops.squeeze(heads, 2)  # [b, n, t, d]
            for heads in (
                self.query_heads(zero_where_masked(query, query_mask)),
                self.key_heads(zero_where_masked(key, seen)),
                self.value_heads(zero_where_masked(value, seen)),
            )
        )
        of_queries, of_keys = self._leaves(queries), self._leaves(keys)
        if seen is not None:
            real = ops.expand_dims(ops.cast(seen, of_keys.dtype), (1, 3))
            of_keys = of_keys * real
        if self.leaf_only:
            scores = ops.matmul(queries, ops.swapaxes(keys, -1, -2))
            scores = scores * self.key_dim**-0.5
            attended = leaf_attention(of_queries, of_keys, scores, values)
        else:
            weights = self._level_weights()
            attended = path_attention(of_queries, of_keys, values, weights)
        attended = ops.expand_dims(attended, 2)
        return self.join_heads(zero_rows(attended, by_time(query_mask)))

    def _leaves(self, heads: Tensor) -> Tensor:
        """Returns `[b, n, t, leaves]`, 1 in the leaf of each position."""
        kernel = ops.cast(self.tree_kernel, heads.dtype)
        bias = ops.expand_dims(ops.cast(self.tree_bias, heads.dtype), 1)
        decisions = ops.matmul(heads, kernel) + bias
        return leaf_membership(decisions, ops.convert_to_tensor(self.grown))

    def _level_weights(self) -> Tensor:
        """Returns `[n, height + 1]`, of sum one over the levels that count."""
        levels = ops.arange(self.height + 1, dtype="int32")
        counted = levels <= ops.convert_to_tensor(self.grown)
        logits = ops.cast(self.level_logits, "float32")
        return ops.softmax(ops.where(counted, logits, -1e9), axis=-1)

    def compute_output_spec(
        self, query: Tensor, value: Tensor, *others, **named
    ) -> keras.KerasTensor:
        """Returns the spec of the output; refuses what `call` would."""
        names = ("attention_mask", "bias", "use_causal_mask")
        refuse(_NO_PAIRS, **{name: named.get(name) for name in names})
        check_float(query=query, value=value)
        warn_of_lost_mask(self, value, named.get("value_mask"))
        shape = self.compute_output_shape(query.shape, value.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    @classmethod
    def from_multi_head_attention(
        cls, layer: keras.layers.Layer, **settings
    ) -> "TreeAttention":
        """Makes a layer with the projections of one that computes softmax.

        Args:
            layer: a `keras.layers.MultiHeadAttention`, trained or not.
            **settings: arguments of `TreeAttention`, such as `height`.

        Raises:
            TypeError: if `layer` is no such layer.
            ValueError: if it has what a tree cannot serve.
        """
        converted = cls(**{**settings_of(layer), **settings})
        if layer.built:
            copy_projections(layer, converted)
        return converted

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **quantized_dtype(self),
            "height": self.height,
            "grown_height": self.grown_height,
            "leaf_only": self.leaf_only,
        }
