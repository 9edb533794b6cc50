"""Multi-head attention as T5 has it."""

import keras
from keras import ops

from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.serialization import sublayer_dtype
from keras_moe.types import Config
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

    The parts of `call` are public, so that a decoder can keep keys and values:
    `attend(query_heads(x), *key_value_heads(memory), ...)`.

    Args:
        num_heads: number of heads.
        key_dim: size of each head.
        dropout_rate: dropout of the attention weights.

    Call arguments:
        query: `(batch, queries, dim)`.
        value: `(batch, keys, dim)`.
        bias: added to the scores; broadcast to `(batch, num_heads, queries,
            keys)`.
        attention_mask: bool, broadcast to the same shape; false hides a key.
        value_mask: bool `(batch, keys)`, false for padding; taken from `value`
            where Keras propagates one.
        training: whether to apply dropout.

    Output shape:
        `(batch, queries, dim)`.

    Example:

    >>> attention = keras_moe.layers.T5Attention(num_heads=2, key_dim=8)
    >>> attention(np.random.rand(1, 5, 16), np.random.rand(1, 7, 16)).shape
    TensorShape([1, 5, 16])
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size(num_heads=num_heads, key_dim=key_dim)
        check_rate(dropout_rate=dropout_rate)
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
        value_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        if value_mask is not None:
            visible = ops.cast(value_mask, "bool")[:, None, None, :]
            if attention_mask is not None:
                visible = visible & ops.cast(attention_mask, "bool")
            attention_mask = visible
        return self.attend(
            self.query_heads(query),
            *self.key_value_heads(value),
            bias=bias,
            attention_mask=attention_mask,
            training=training,
        )

    def query_heads(self, query: Tensor) -> Tensor:
        """Returns `(batch, num_heads, queries, key_dim)`."""
        return self._split_heads(self.query(query))

    def key_value_heads(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values, `(batch, num_heads, keys, key_dim)`."""
        keys = self._split_heads(self.key(value))
        return keys, self._split_heads(self.value(value))

    def attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None = None,
        attention_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """Attends with projected heads; returns `(batch, queries, dim)`."""
        # b = batch, h = head, q = query, k = key: [b, h, q, k]
        scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
        scores = ops.cast(scores, "float32")
        if bias is not None:
            scores = scores + ops.cast(bias, "float32")
        if attention_mask is not None:
            scores = ops.where(attention_mask, scores, -1e9)
        weights = ops.cast(ops.softmax(scores, axis=-1), values.dtype)
        weights = self.dropout(weights, training=training)
        heads = ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))
        batch, length = ops.shape(heads)[:2]
        inner = self.num_heads * self.key_dim
        return self.output_projection(
            ops.reshape(heads, (batch, length, inner))
        )

    def _split_heads(self, x: Tensor) -> Tensor:
        batch, length = ops.shape(x)[:2]
        x = ops.reshape(x, (batch, length, self.num_heads, self.key_dim))
        return ops.transpose(x, (0, 2, 1, 3))

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
        }
