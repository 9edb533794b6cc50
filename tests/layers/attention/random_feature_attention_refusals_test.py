import keras
import numpy as np
import pytest

from keras_moe.layers import RandomFeatureAttention
from tests.layers.attention.random_feature_case import DIM
from tests.layers.attention.random_feature_case import data
from tests.layers.attention.random_feature_case import make


def test_refuses_while_a_model_is_built():
    inputs = keras.Input((None, DIM))
    with pytest.raises(ValueError, match="could mask"):
        make()(inputs, inputs, attention_mask=keras.Input((None, None)))
    with pytest.raises(ValueError, match="as many keys as queries"):
        make(causal=True)(keras.Input((30, DIM)), keras.Input((10, DIM)))
    outputs = make(output_shape=7, dtype="mixed_bfloat16")(inputs, inputs)
    assert (outputs.shape, outputs.dtype) == ((None, None, 7), "bfloat16")


REFUSED = {
    "attention_mask": (
        lambda: make()(
            data(1, 3), data(1, 3), attention_mask=np.ones((1, 3, 3))
        ),
        "could mask",
    ),
    "scores": (
        lambda: make()(data(1, 3), data(1, 3), return_attention_scores=True),
        "never compute scores",
    ),
    "causal_lengths": (
        lambda: make(causal=True)(data(1, 3), data(1, 4)),
        "as many keys as queries",
    ),
    "feature_map": (lambda: make(feature_map="favor"), "`feature_map` must be"),
    "covariance": (lambda: make(covariance="full"), "`covariance` must be"),
    "projection": (lambda: make(projection="haar"), "`projection` must be"),
    "features": (lambda: make(0), "num_random_features=0"),
    "odd": (lambda: make(7, antithetic=True), "must be even"),
    "hyperbolic": (
        lambda: make(feature_map="hyperbolic", antithetic=False),
        "in pairs",
    ),
    "relu": (
        lambda: make(feature_map="relu", centering=True),
        "softmax kernels",
    ),
    "exact": (
        lambda: make(feature_map="elu", exact_below=8),
        "approximate softmax",
    ),
    "rank": (
        lambda: make()(data(1, 3)[None], data(1, 3)[None]),
        r"shape \(batch, length",
    ),
    "key_length": (
        lambda: make()(data(1, 3), data(1, 4), data(1, 5)),
        "as many keys as values",
    ),
    "seed": (lambda: make(seed=1.5), "seed=1.5"),
    "unbuilt": (lambda: make().encode_memory(data(1, 3)), "must be built"),
    "heads": (lambda: make(num_key_value_heads=3), "must be divisible"),
    "rotary": (
        lambda: RandomFeatureAttention(2, 3, rotary=True),
        "must be even for `rotary",
    ),
    "momentum": (lambda: make(momentum=1.0), "momentum=1.0"),
    "redraw": (lambda: make(redraw_interval=0), "redraw_interval=0"),
    "stream": (lambda: make().init_state(1), "need `causal=True`"),
    "memory": (
        lambda: make(exact_below=4).encode_memory(data(1, 3)),
        "`exact_below` must be None",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()
