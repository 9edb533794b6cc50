import numpy as np
import pytest
import tensorflow as tf

from tests.covering import covering
from tests.layers.attention.random_feature_case import data
from tests.layers.attention.random_feature_case import expected
from tests.layers.attention.random_feature_case import make


@pytest.mark.parametrize(
    ("feature_map", "shared", "scale"),
    covering(
        ["favor+", "favor++", "relu", "elu"], [2, 4], [1.0, 6.0], strength=1
    ),
)
def test_steps_equal_the_whole(feature_map, shared, scale):
    layer = make(
        feature_map=feature_map,
        num_key_value_heads=shared,
        causal=True,
        rotary=True,
    )
    x = data(2, 90, scale=scale)
    layer.adapt(x, x)
    whole = np.asarray(layer(x, x))
    state = layer.init_state(2)
    parts = []
    # Token by token, and as a prompt.
    for start, end in [(i, i + 1) for i in range(8)] + [(8, 75), (75, 90)]:
        part, state = layer.step(x[:, start:end], state)
        parts.append(part)
    assert int(state.position) == 90
    error = np.abs(np.concatenate(parts, axis=1) - whole).max()
    assert error < 1e-5 * np.abs(whole).max()


def test_steps_skip_padding():
    layer = make(causal=True)
    x = data(2, 6)
    mask = np.array([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1]], bool)
    state = layer.init_state(2)
    for i in range(6):
        part, state = layer.step(
            x[:, i : i + 1], state, mask=mask[:, i : i + 1]
        )
        whole = layer(x, x, query_mask=mask, value_mask=mask)
        np.testing.assert_allclose(part[:, 0], whole[:, i], atol=1e-5)


def test_the_state_does_not_grow():
    layer = make(causal=True)
    x = data(1, 500)
    layer.build(x.shape, x.shape)
    state = layer.init_state(1)
    shapes = [tuple(array.shape) for array in tf.nest.flatten(state)]
    _, state = layer.step(x, state)
    assert [tuple(a.shape) for a in tf.nest.flatten(state)] == shapes


# In a graph, by default, in key_value_cache_test.py.
@pytest.mark.parametrize(
    "jit_compile", [pytest.param(False, marks=pytest.mark.large), True]
)
def test_steps_in_a_compiled_loop(jit_compile):
    layer = make(causal=True, rotary=True)
    x = tf.constant(data(2, 12))
    whole = layer(x, x)

    def stream(x):
        state = layer.init_state(tf.shape(x)[0])
        outputs = tf.zeros_like(x)

        def advance(i, outputs, state):
            part, state = layer.step(x[:, i][:, None], state)
            here = (tf.range(12) == i)[None, :, None]
            return i + 1, tf.where(here, part, outputs), state

        return tf.while_loop(
            lambda i, *_: i < 12, advance, (0, outputs, state)
        )[1]

    compiled = tf.function(stream, jit_compile=jit_compile, autograph=False)
    np.testing.assert_allclose(compiled(x), whole, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_a_memory_answers_as_the_call_does(masked):
    layer = make()
    query, value = data(2, 5), data(2, 700, seed=1)
    mask = np.arange(700) < np.array([[700], [300]]) if masked else None
    layer.adapt(query, value)
    memory = layer.encode_memory(value, mask)
    received = layer.attend_to_memory(query, memory)
    np.testing.assert_allclose(
        received, layer(query, value, value_mask=mask), atol=1e-5
    )
    np.testing.assert_allclose(
        received, expected(layer, query, value, value_mask=mask), atol=1e-5
    )
