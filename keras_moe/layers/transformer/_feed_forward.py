"""The dense feed-forward network of a Transformer block."""

import keras

from keras_moe.keras_internals import set_mask
from keras_moe.layers._float_inputs import check_float
from keras_moe.layers._own_activation import build_activation
from keras_moe.layers._own_activation import own_activation
from keras_moe.layers._own_activation import serialize_activation
from keras_moe.ops._short_sequences import apply_dense
from keras_moe.serialization import quantized_dtype
from keras_moe.serialization import register
from keras_moe.serialization import sublayer_dtype
from keras_moe.types import ActivationLike
from keras_moe.types import Config
from keras_moe.types import InitializerLike
from keras_moe.types import LayoutTable
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_rate
from keras_moe.validation import check_size


@register
class FeedForward(keras.layers.Layer):
    """Two linear layers with an activation between, optionally gated.

    Computes for every token what one expert of `keras_moe.layers.SparseMoE`
    does.

    Source: [Raffel et al., 2019](https://arxiv.org/abs/1910.10683); gated:
    [Shazeer, 2020](https://arxiv.org/abs/2002.05202).

    Args:
        hidden_dim: inner size.
        activation: activation of the inner layer: what Keras takes, or a layer
            such as `keras_moe.layers.TopKActivation`, of which a copy is made.
        gated: whether the activation is multiplied by a second linear layer.
        dropout_rate: dropout of the inner layer.
        use_bias: whether the linear layers have biases.
        kernel_initializer: initialiser of the kernels; by default normal, with
            a variance of one over the number of inputs, as in T5.
        bias_initializer: initialiser of the biases.

    Input shape:
        `(batch, ..., dim)`.

    Output shape:
        The same.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> keras_moe.layers.FeedForward(hidden_dim=32)(np.zeros((2, 3, 8))).shape
    TensorShape([2, 3, 8])
    """

    # A device computes its part of the hidden layer, and the second product
    # adds the parts up, as in Megatron (arXiv:1909.08053).
    LAYOUT: LayoutTable = {
        "wi/kernel": (None, "model"),
        "wi_gate/kernel?": (None, "model"),
        "wo/kernel": ("model", None),
    }

    def __init__(
        self,
        hidden_dim: int,
        activation: ActivationLike = "relu",
        gated: bool = False,
        dropout_rate: float = 0.0,
        use_bias: bool = False,
        kernel_initializer: InitializerLike = None,
        bias_initializer: InitializerLike = "zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_size(hidden_dim=hidden_dim)
        check_rate(dropout_rate=dropout_rate)
        self.hidden_dim = hidden_dim
        self.activation = own_activation(activation, self.dtype_policy)
        self.gated = gated
        self.dropout_rate = dropout_rate
        self.use_bias = use_bias
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.VarianceScaling(
                1.0, mode="fan_in", distribution="normal"
            )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        build_activation(self.activation, (*input_shape[:-1], self.hidden_dim))
        self.inner = self._dense(self.hidden_dim, "wi")
        self.inner.build(input_shape)
        if self.gated:
            self.gate = self._dense(self.hidden_dim, "wi_gate")
            self.gate.build(input_shape)
        self.dropout = keras.layers.Dropout(
            self.dropout_rate, dtype=self.dtype_policy, name="dropout"
        )
        self.outer = self._dense(input_shape[-1], "wo")
        self.outer.build((*input_shape[:-1], self.hidden_dim))

    def _dense(self, units: int | None, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            use_bias=self.use_bias,
            # An initialiser that is used twice draws the same values twice.
            kernel_initializer=self.kernel_initializer.clone(),
            bias_initializer=self.bias_initializer.clone(),
            dtype=sublayer_dtype(self, name),
            name=name,
        )

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        check_float(inputs=inputs)
        hidden = apply_dense(self.inner, inputs)
        if mask is not None and isinstance(self.activation, keras.layers.Layer):
            set_mask(hidden, mask)  # an activation may measure
        hidden = self.activation(hidden)
        if self.gated:
            hidden = hidden * apply_dense(self.gate, inputs)
        hidden = self.dropout(hidden, training=training)
        return apply_dense(self.outer, hidden)

    def compute_output_spec(
        self, inputs: Tensor, *others, **named
    ) -> keras.KerasTensor:
        """Returns the spec of the output; refuses ids, as `call` does."""
        check_float(inputs=inputs)
        return super().compute_output_spec(inputs, *others, **named)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **quantized_dtype(self),
            "hidden_dim": self.hidden_dim,
            "activation": serialize_activation(self.activation),
            "gated": self.gated,
            "dropout_rate": self.dropout_rate,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
        }
