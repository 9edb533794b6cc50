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
    "never": (
        lambda: make(exact_below="never"),
        "must be 'auto', a positive integer or None. Received: .*'never'",
    ),
    "exact_size": (lambda: make(exact_below=0), "exact_below=0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("place", ["query", "key"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_adapt_refuses_what_features_cannot_be_fitted_to(place, value):
    """Nothing was fitted, and nothing said: outputs were those of no fit."""
    layer, x = make(), data(1, 6)
    layer.adapt(x, x)
    before = layer.get_weights()
    broken = {"query": x, "value": x, "key": x}
    broken[place] = np.where(np.arange(6)[:, None] == 2, value, x).astype("f")
    with pytest.raises(ValueError, match="`query` and `key` must be finite"):
        layer.adapt(**broken)
    for weight, kept in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)
    masks = {f"{name}_mask": np.arange(6)[None] != 2 for name in broken}
    layer.adapt(**broken, **masks)


def test_adapt_refuses_padding_alone():
    layer, x = make(), data(1, 6)
    with pytest.raises(ValueError, match="not all padding"):
        layer.adapt(x, x, value_mask=np.zeros((1, 6), bool))
    assert not int(layer.features.num_updates)
