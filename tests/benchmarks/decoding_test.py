"""The floor has the products of the decoder, and no other."""

import keras
import tensorflow as tf

from benchmarks.decoding import student
from benchmarks.decoding.floor import Floor
from keras_moe.generation import decode
from keras_moe.models import SwitchTransformer


def products(function, *inputs):
    program = function.experimental_get_compiler_ir(*inputs)(stage="hlo")
    return program.count(" dot(")


def test_the_floor_has_the_products_of_the_decoder():
    keras.utils.set_random_seed(0)
    model = SwitchTransformer.from_preset(
        "switch_tiny", num_encoder_layers=1, num_decoder_layers=2, num_experts=0
    )
    decoding = tf.function(
        lambda ids: decode(model, ids, student.TOKENS),
        jit_compile=True,
        autograph=False,
    )
    looped = products(decoding, tf.ones((1, 8), tf.int32))
    floor = Floor(model.config)
    unrolled = products(
        tf.function(floor.multiply, jit_compile=True, autograph=False),
        tf.ones((8, model.config.model_dim)),
    )
    # The encoder, and what the decoder makes of it once; then token by token.
    once = 8 + 2 * 2
    assert unrolled - once == student.TOKENS * (looped - once)
