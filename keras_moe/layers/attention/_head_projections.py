"""The projections around multi-head attention."""

import keras
from keras import ops

from keras_moe.serialization import sublayer_dtype
from keras_moe.types import Config
from keras_moe.types import InitializerLike
from keras_moe.types import LayoutTable
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size


class HeadProjections(keras.layers.Layer):
    """Projects to heads and back, with the weights of Keras's layers.

    Names and shapes are those of `keras.layers.MultiHeadAttention` and
    `keras.layers.GroupQueryAttention`, so that weights can be carried over.

    Args:
        num_heads: heads of the queries.
        key_dim: size of each head of queries and keys.
        value_dim: size of each head of values; `None` for `key_dim`.
        num_key_value_heads: heads of keys and values, each shared by
            `num_heads / num_key_value_heads` query heads; `None` for as many.
        use_bias: whether projections have biases.
        output_shape: size of the output; `None` for the query's.
        kernel_initializer: initialiser of the kernels.
        bias_initializer: initialiser of the biases.
        kernel_regularizer: regulariser of the kernels.
        bias_regularizer: regulariser of the biases.
        kernel_constraint: constraint of the kernels.
        bias_constraint: constraint of the biases.
    """

    # Kernels have an axis for heads: (dim, heads, size of a head), and back.
    LAYOUT: LayoutTable = {
        "query/kernel": (None, "model", None),
        "key/kernel": (None, "model", None),
        "value/kernel": (None, "model", None),
        "attention_output/kernel": ("model", None, None),
    }

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        num_key_value_heads: int | None = None,
        use_bias: bool = True,
        output_shape: int | None = None,
        kernel_initializer: InitializerLike = "glorot_uniform",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size(
            num_heads=num_heads,
            key_dim=key_dim,
            value_dim=value_dim,
            num_key_value_heads=num_key_value_heads,
            output_shape=output_shape,
        )
        if num_heads % (num_key_value_heads or num_heads):
            raise ValueError(
                "`num_heads` must be divisible by `num_key_value_heads`. "
                f"Received: num_heads={num_heads}, "
                f"num_key_value_heads={num_key_value_heads}."
            )
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = value_dim or key_dim
        self.num_key_value_heads = num_key_value_heads or num_heads
        self.use_bias = use_bias
        # `output_shape` is a property of Keras's layers.
        self.output_dim = output_shape
        self.settings = {
            "kernel_initializer": keras.initializers.get(kernel_initializer),
            "bias_initializer": keras.initializers.get(bias_initializer),
            "kernel_regularizer": keras.regularizers.get(kernel_regularizer),
            "bias_regularizer": keras.regularizers.get(bias_regularizer),
            "kernel_constraint": keras.constraints.get(kernel_constraint),
            "bias_constraint": keras.constraints.get(bias_constraint),
        }
        self.supports_masking = True

    def build(
        self,
        query_shape: Shape,
        value_shape: Shape,
        key_shape: Shape | None = None,
    ) -> None:
        key_shape = key_shape or value_shape
        heads, shared = self.num_heads, self.num_key_value_heads
        self.query = self._to_heads("query", heads, self.key_dim)
        self.query.build(query_shape)
        self.key = self._to_heads("key", shared, self.key_dim)
        self.key.build(key_shape)
        self.value = self._to_heads("value", shared, self.value_dim)
        self.value.build(value_shape)
        self.output_projection = keras.layers.EinsumDense(
            "bthd,hdm->btm",
            output_shape=(None, self.output_dim or query_shape[-1]),
            bias_axes="m" if self.use_bias else None,
            name="attention_output",
            dtype=sublayer_dtype(self, "attention_output"),
            **self._fresh_settings(),
        )
        self.output_projection.build((None, None, heads, self.value_dim))

    def _to_heads(
        self, name: str, heads: int, dim: int
    ) -> keras.layers.EinsumDense:
        return keras.layers.EinsumDense(
            "btm,mhd->bthd",
            output_shape=(None, heads, dim),
            bias_axes="hd" if self.use_bias else None,
            name=name,
            dtype=sublayer_dtype(self, name),
            **self._fresh_settings(),
        )

    def _fresh_settings(self) -> Config:
        """Returns the settings with initialisers of the projection's own."""
        return {
            name: each.__class__.from_config(each.get_config())
            if name.endswith("initializer")
            else each
            for name, each in self.settings.items()
        }

    @property
    def head_dtype(self) -> str:
        """What is computed in between the projections."""
        return "float32"

    def query_heads(self, query: Tensor) -> Tensor:
        """Returns float32 `[b, n, g, t, key_dim]`."""
        return self._split(self.query(query))

    def key_heads(self, key: Tensor) -> Tensor:
        """Returns float32 `[b, n, 1, t, key_dim]`."""
        return self._split(self.key(key))

    def value_heads(self, value: Tensor) -> Tensor:
        """Returns float32 `[b, n, 1, t, value_dim]`."""
        return self._split(self.value(value))

    def join_heads(self, attended: Tensor) -> Tensor:
        """Returns the output `[b, t, dim]` for `[b, n, g, t, value_dim]`."""
        batch, _, _, length, dim = ops.shape(attended)
        x = ops.transpose(attended, (0, 3, 1, 2, 4))
        x = ops.reshape(x, (batch, length, self.num_heads, dim))
        return self.output_projection(ops.cast(x, self.compute_dtype))

    def _split(self, x: Tensor) -> Tensor:
        batch, length, heads, dim = ops.shape(x)
        shared = self.num_key_value_heads
        x = ops.reshape(x, (batch, length, shared, heads // shared, dim))
        return ops.cast(ops.transpose(x, (0, 2, 3, 1, 4)), self.head_dtype)

    def compute_output_shape(
        self,
        query_shape: Shape,
        value_shape: Shape,
        key_shape: Shape | None = None,
    ) -> Shape:
        return (*query_shape[:-1], self.output_dim or query_shape[-1])

    def get_config(self) -> Config:
        serialize = {
            "initializer": keras.initializers.serialize,
            "regularizer": keras.regularizers.serialize,
            "constraint": keras.constraints.serialize,
        }
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "num_key_value_heads": self.num_key_value_heads,
            "use_bias": self.use_bias,
            "output_shape": self.output_dim,
            **{
                name: serialize[name.split("_")[1]](each)
                for name, each in self.settings.items()
            },
        }
