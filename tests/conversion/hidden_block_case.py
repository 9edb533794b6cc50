"""Blocks with the attributes that KerasHub's have, made here."""

import keras
from keras import ops

from tests.conversion.upcycle_case import DIM
from tests.conversion.upcycle_case import HIDDEN


@keras.saving.register_keras_serializable("hidden_block_case")
class EncoderLike(keras.layers.Layer):
    """As `TransformerEncoder`: its layers are made when it is built."""

    def __init__(self, regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.regularizer = regularizer
        self.supports_masking = True

    def build(self, inputs_shape):
        self._feedforward_layer_norm = keras.layers.LayerNormalization(
            dtype=self.dtype_policy
        )
        self._feedforward_intermediate_dense = keras.layers.Dense(
            HIDDEN,
            activation="gelu",
            bias_initializer="normal",
            kernel_regularizer=self.regularizer,
            dtype=self.dtype_policy,
        )
        self._feedforward_output_dense = keras.layers.Dense(
            inputs_shape[-1], bias_initializer="normal", dtype=self.dtype_policy
        )
        self._feedforward_layer_norm.build(inputs_shape)
        self._feedforward_intermediate_dense.build(inputs_shape)
        self._feedforward_output_dense.build((*inputs_shape[:-1], HIDDEN))

    def call(self, inputs, padding_mask=None, training=None):
        x = self._feedforward_intermediate_dense(inputs)
        x = self._feedforward_output_dense(x)
        return self._feedforward_layer_norm(x + inputs)

    def get_config(self):
        return super().get_config() | {"regularizer": self.regularizer}


@keras.saving.register_keras_serializable("hidden_block_case")
class TwoHidden(EncoderLike):
    """As blocks of decoders with a gate: more happens between the two."""

    def call(self, inputs):
        x = self._feedforward_intermediate_dense(inputs)
        return self._feedforward_output_dense(x * x)


@keras.saving.register_keras_serializable("hidden_block_case")
class CausalLike(EncoderLike):
    """A block that looks back."""

    def call(self, inputs, padding_mask=None, training=None):
        return super().call(ops.cumsum(inputs, axis=1))


@keras.saving.register_keras_serializable("hidden_block_case")
class T5Like(keras.layers.Layer):
    """As `T5TransformerLayer`: gated, one dropout twice, and two outputs."""

    def __init__(self, dropout=0.0, is_decoder=False, **kwargs):
        super().__init__(**kwargs)
        self.is_decoder = is_decoder
        self.input_projector = keras.layers.Dense(
            HIDDEN, activation="relu", use_bias=False
        )
        self.gate_projector = keras.layers.Dense(HIDDEN, use_bias=False)
        self.output_projector = keras.layers.Dense(DIM, use_bias=False)
        self.dropout_layer = keras.layers.Dropout(dropout, seed=1)

    def call(
        self,
        hidden_states,
        attention_mask=None,
        use_causal_mask=False,
        training=False,
    ):
        x = self.input_projector(hidden_states)
        x = x * self.gate_projector(hidden_states)
        x = self.dropout_layer(x, training=training)
        x = self.output_projector(x)
        x = self.dropout_layer(x, training=training)
        return hidden_states + x, ops.ones_like(hidden_states)


def encoder(depth=2, block=EncoderLike, **kwargs):
    x = inputs = keras.Input((None, DIM), name="inputs")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    for index in range(depth):
        x = block(name=f"block_{index}", **kwargs)(x, padding_mask=mask)
    return keras.Model([inputs, mask], x)


def t5(**kwargs):
    inputs = keras.Input((None, DIM))
    mask = keras.Input((None,), dtype="int32")
    block = T5Like(name="block", **kwargs)
    x, _ = block(
        inputs,
        attention_mask=ops.expand_dims(mask, 1),
        use_causal_mask=True,
    )
    return keras.Model([inputs, mask], x)
