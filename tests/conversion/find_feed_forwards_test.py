import keras
import numpy as np
import pytest

from keras_moe import layers
from keras_moe.conversion import find_feed_forwards

DIM, HIDDEN = 6, 10


def names(model):
    found = find_feed_forwards(model)
    return [site.name for site in found.sites]


def pair(x, name="ffn", activation="relu", end=None, **kwargs):
    x = keras.layers.Dense(HIDDEN, activation=activation, name=f"{name}_in")(x)
    return keras.layers.Dense(DIM, activation=end, name=name, **kwargs)(x)


def model_of(build):
    inputs = keras.Input((None, DIM), name="inputs")
    return keras.Model(inputs, build(inputs))


def test_a_subclassed_model_says_why_nothing_is_found():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    found = find_feed_forwards(Subclassed(name="own"))
    assert not found.sites and not found.doubtful
    assert "it is subclassed" in found.skipped["own"]


def test_two_dense_layers_in_a_row():
    found = find_feed_forwards(model_of(pair))
    (site,) = found.sites
    assert site.name == "ffn"
    assert site.activation is keras.activations.relu
    assert (site.inner.name, site.outer.name) == ("ffn_in", "ffn")
    assert site.gate is None and site.dropout_rate == 0.0
    assert not found.doubtful and not found.skipped


def test_activation_and_dropout_may_lie_between():
    def build(x):
        x = keras.layers.Dense(HIDDEN)(x)
        x = keras.layers.Activation("gelu")(x)
        x = keras.layers.Dropout(0.3)(x)
        return keras.layers.Dense(DIM)(x)

    (site,) = find_feed_forwards(model_of(build)).sites
    assert site.activation is keras.activations.gelu
    assert site.dropout_rate == 0.3
    assert len(site.removed) == 3


def test_the_order_is_the_graphs_and_nested_names_have_a_path():
    inner = keras.Sequential(
        [
            keras.Input((None, DIM)),
            layers.FeedForward(HIDDEN, name="first"),
            keras.layers.Dense(HIDDEN, activation="relu"),
            keras.layers.Dense(DIM, name="second"),
        ],
        name="inner",
    )
    middle = model_of(lambda x: pair(inner(x), "after"))
    middle.name = "middle"

    def build(x):
        x = pair(x, "before")
        x = middle(x)
        x = layers.FeedForward(HIDDEN, name="last")(x)
        return middle(x)  # seen once

    assert names(model_of(build)) == [
        "before",
        "middle/inner/first",
        "middle/inner/second",
        "middle/after",
        "last",
    ]


@pytest.mark.parametrize("gated", [False, True])
def test_feed_forwards_in_blocks(gated):
    def build(x):
        return layers.EncoderBlock(
            layers.T5Attention(2, 3),
            layers.FeedForward(HIDDEN, gated=gated, activation="silu"),
            name="block",
        )(x)

    (site,) = find_feed_forwards(model_of(build)).sites
    assert site.name == "block"
    assert set(site.linear_layers) == {"inner", "outer"} | (
        {"gate"} if gated else set()
    )


def no_way_back(x):
    return keras.layers.Dense(DIM + 1)(keras.layers.Dense(9, "relu")(x))


def hidden_is_used_twice(x):
    hidden = keras.layers.Dense(HIDDEN, "relu")(x)
    return [keras.layers.Dense(DIM)(hidden), keras.layers.Dense(2)(hidden)]


def hidden_is_an_output(x):
    hidden = keras.layers.Dense(HIDDEN, "relu")(x)
    return [hidden, keras.layers.Dense(DIM)(hidden)]


def something_else_between(x):
    hidden = keras.layers.Dense(HIDDEN, "relu")(x)
    return keras.layers.Dense(DIM)(keras.layers.LayerNormalization()(hidden))


def excitation(x):
    return x * pair(x, end="sigmoid")


@pytest.mark.parametrize(
    "build",
    [
        no_way_back,
        hidden_is_used_twice,
        hidden_is_an_output,
        something_else_between,
        excitation,
    ],
)
def test_what_is_no_feed_forward_network(build):
    found = find_feed_forwards(model_of(build))
    assert found.sites == found.doubtful == ()
    assert found.skipped == {}


def called_twice(x):
    first = keras.layers.Dense(HIDDEN, "relu")
    second = keras.layers.Dense(DIM, name="ffn")
    return second(first(second(first(x))))


def called_twice_apart(x):
    second = keras.layers.Dense(DIM, name="ffn")
    left = second(keras.layers.Dense(HIDDEN, "relu")(x))
    return left + second(keras.layers.Dense(HIDDEN, "relu")(x))


def regularized(x):
    return pair(x, kernel_regularizer="l2")


def constrained(x):
    return pair(x, bias_constraint="non_neg")


def mixed(x):
    return pair(x, dtype="mixed_bfloat16")


def two_activations(x):
    x = keras.layers.Dense(HIDDEN, activation="relu")(x)
    x = keras.layers.Activation("tanh")(x)
    return keras.layers.Dense(DIM, name="ffn")(x)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (called_twice_apart, "used more than once"),
        (regularized, "no kernel_regularizer"),
        (constrained, "no bias_constraint"),
        (mixed, "different dtype policies"),
        (two_activations, "two activations"),
    ],
)
def test_what_cannot_be_converted_is_said(build, reason):
    found = find_feed_forwards(model_of(build))
    assert found.sites == found.doubtful == ()
    assert list(found.skipped) == ["ffn"]
    assert reason in found.skipped["ffn"]


def test_layers_that_are_called_twice_are_left_alone():
    assert names(model_of(called_twice)) == []


def test_doubtful_pairs_are_told_apart():
    def linear(x):
        return pair(x, activation=None)

    def overlapping(x):
        for size, name in ((9, "a"), (DIM, "b"), (9, "c")):
            x = keras.layers.Dense(size, name=name)(x)
            x = keras.layers.Activation("relu")(x)
        return x

    found = find_feed_forwards(model_of(linear))
    assert [site.name for site in found.doubtful] == ["ffn"]
    assert "no activation" in found.skipped["ffn"]
    found = find_feed_forwards(model_of(overlapping))
    assert found.sites == ()
    assert [site.name for site in found.doubtful] == ["b", "c"]
    assert "another pair" in found.skipped["b"]


def test_subclasses_of_dense_may_do_anything():
    class Mine(keras.layers.Dense):
        def call(self, inputs, training=None):
            return 2 * super().call(inputs)

    def build(x):
        return keras.layers.Dense(DIM)(Mine(HIDDEN, "relu")(x))

    assert names(model_of(build)) == []


def test_sequential_models():
    model = keras.Sequential(
        [
            keras.layers.Dense(HIDDEN, "relu"),
            keras.layers.Dense(DIM, name="ffn"),
            keras.layers.Dense(1),
        ]
    )
    model(np.zeros((2, DIM)))
    assert names(model) == ["ffn"]
