import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import _in_place_cache as in_place_cache
from keras_moe.generation._in_place_cache import InPlaceCache
from keras_moe.layers import KeyValueCache
from keras_moe.layers import RandomFeatureAttention
from keras_moe.layers import T5Attention

BATCH, HEADS, LENGTH, KEY_DIM = 2, 3, 12, 4
CACHES = [KeyValueCache, InPlaceCache]


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def heads(seed=0):
    """All keys and values that there will be."""
    shape = (BATCH, HEADS, LENGTH, KEY_DIM)
    return data(*shape, seed=seed), data(*shape, seed=seed + 1)


def empty(cache):
    return cache.empty(BATCH, HEADS, LENGTH, KEY_DIM, "float32")


def append(cache, start, end, seed=0):
    return cache.append(
        *(tf.constant(array[:, :, start:end]) for array in heads(seed))
    )


def assert_holds(cache, keys, values, num_queries):
    """Each query sees what was appended until then, and nothing else."""
    seen_keys, seen_values, visible = cache.read(num_queries)
    count = keys.shape[2]
    assert int(cache.position) == count
    np.testing.assert_array_equal(seen_keys[:, :, :count], keys)
    np.testing.assert_array_equal(seen_values[:, :, :count], values)
    if visible is None:
        assert num_queries == 1 and seen_keys.shape[2] == count
        return
    expected = np.zeros((num_queries, seen_keys.shape[2]), bool)
    for query in range(num_queries):
        expected[query, : count - num_queries + query + 1] = True
    np.testing.assert_array_equal(visible, expected)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize(
    "chunks", [(1, 1, 1), (5,), (12,), (3, 1, 4), (1, 6, 2, 1)]
)
def test_append(cache, chunks):
    keys, values = heads()
    state, end = empty(cache), 0
    assert int(state.position) == 0
    for chunk in chunks:
        state = append(state, end, end + chunk)
        end += chunk
        for num_queries in {1, chunk, end}:
            assert_holds(
                state, keys[:, :, :end], values[:, :, :end], num_queries
            )


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("chunk", [1, 3])
def test_rewind(cache, chunk):
    state = append(empty(cache), 0, 7).rewind(tf.constant(4))
    before = [array[:, :, :4] for array in heads()]
    assert_holds(state, *before, 2)
    # Others take the places of those that were taken back.
    state = append(state, 4, 4 + chunk, seed=5)
    after = [array[:, :, 4 : 4 + chunk] for array in heads(5)]
    both = [np.concatenate(p, axis=2) for p in zip(before, after, strict=True)]
    assert_holds(state, *both, 1)
    assert_holds(state, *both, chunk + 1)


@hypothesis.given(
    chunks=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=6)
)
@hypothesis.settings(max_examples=4)
def test_caches_are_alike_in_a_graph(chunks):
    # Steps of `(appended, taken back)`.
    attended = []
    for cache in CACHES:

        @tf.function(autograph=False)
        def run(cache=cache):
            state, end, seen = empty(cache), 0, []
            nothing = tf.constant(0.0)
            for seed, (chunk, back) in enumerate(chunks):
                if end + chunk > LENGTH:
                    break
                # As in a decoder, new keys follow from what was read before.
                new = [
                    array[:, :, end : end + chunk] + nothing
                    for array in heads(seed)
                ]
                state = state.append(*new)
                end += chunk
                keys, values, visible = state.read(chunk)
                if visible is None:
                    visible = tf.ones((1, 1), tf.bool)
                hidden = tf.where(visible[None, None], 0.0, -1e9)
                queries = keys[:, :, end - chunk : end]
                scores = tf.matmul(queries, keys, transpose_b=True) + hidden
                seen.append(tf.matmul(tf.nn.softmax(scores), values))
                nothing = 0.0 * tf.reduce_sum(seen[-1])
                end -= min(back, end)
                state = state.rewind(tf.constant(end))
            return seen

        attended.append(run())
    for static, growing in zip(*attended, strict=True):
        np.testing.assert_allclose(static, growing, rtol=1e-5, atol=1e-6)


def test_a_long_cache_reads_what_there_is(monkeypatch):
    monkeypatch.setattr(in_place_cache, "_FEW_POSITIONS", LENGTH - 1)
    state = append(append(empty(InPlaceCache), 0, 3), 3, 4)
    for queries in (1, 2):
        keys, values, _ = state.read(queries)
        assert keys.shape[2] == values.shape[2] == 4
        assert_holds(state, *(array[:, :, :4] for array in heads()), queries)


def test_a_loop_writes_in_place():
    # Two calls, and keys and values, share no array with one another.
    @tf.function(autograph=False)
    def run(first):
        def advance(position, state):
            new = tf.fill((BATCH, HEADS, 1, KEY_DIM), first + state.position)
            return position + 1, state.append(
                tf.cast(new, tf.float32), -tf.cast(new, tf.float32)
            )

        start = (0, empty(InPlaceCache))
        return tf.while_loop(lambda i, _: i < LENGTH, advance, start)[1]

    before, after = run(tf.constant(1)), run(tf.constant(101))
    expected = np.broadcast_to(
        np.arange(1, LENGTH + 1)[:, None], (BATCH, HEADS, LENGTH, KEY_DIM)
    )
    for state, offset in ((before, 0), (after, 100)):
        np.testing.assert_array_equal(state.keys, expected + offset)
        np.testing.assert_array_equal(state.values, -expected - offset)


# === What attention does with them ===

DIM = 10


def t5(rotary):
    layer = T5Attention(HEADS, KEY_DIM, rotary=rotary)
    layer.build((None, None, DIM), (None, None, DIM))
    # Scores that matter.
    layer.query.kernel.assign(6.0 * layer.query.kernel)
    return layer


def random_feature(rotary):
    layer = RandomFeatureAttention(
        HEADS, KEY_DIM, 16, causal=True, rotary=rotary, seed=1
    )
    layer.build((None, None, DIM), (None, None, DIM))
    return layer


def streams():
    """A layer, its state before the first position, and its bias."""
    for rotary in (False, True):
        for cache in CACHES:
            name = f"t5-{rotary}-{cache.__name__}"
            make = functools.partial(t5, rotary)
            yield pytest.param(make, cache, not rotary, id=name)
        make = functools.partial(random_feature, rotary)
        # By default in random_feature_attention_streaming_test.py.
        marks = [pytest.mark.large] if rotary else []
        name = f"features-{rotary}"
        yield pytest.param(make, None, False, id=name, marks=marks)


@pytest.fixture(params=[False, True], ids=["eager", "graph"])
def in_graph(request):
    return request.param


def run(function, in_graph):
    if in_graph:
        function = tf.function(function, autograph=False)
    return function()


@pytest.mark.parametrize("make, cache, biased", list(streams()))
def test_chunks_equal_the_whole(make, cache, biased, in_graph):
    layer, x = make(), tf.constant(data(BATCH, LENGTH, DIM))
    bias = data(HEADS, LENGTH, LENGTH, seed=3) if biased else None
    options = {"bias": bias[None]} if biased else {}
    whole = layer(x, x, use_causal_mask=True, **options)

    def stream():
        state, parts = layer.init_state(BATCH, LENGTH, cache), []
        for start, end in [(0, 1), (1, 5), (5, 6), (6, 7), (7, 12)]:
            options = {"bias": bias[:, start:end]} if biased else {}
            part, state = layer.step(x[:, start:end], state, **options)
            parts.append(part)
        return tf.concat(parts, axis=1), state.position

    received, position = run(stream, in_graph)
    np.testing.assert_allclose(received, whole, rtol=1e-4, atol=1e-5)
    assert int(position) == LENGTH


@pytest.mark.parametrize("make, cache, biased", list(streams()))
def test_remember_then_step(make, cache, biased, in_graph):
    layer, x = make(), tf.constant(data(BATCH, LENGTH, DIM))
    bias = data(HEADS, 1, LENGTH, seed=3) if biased else None
    options = {"bias": bias} if biased else {}

    def at_once():
        state = layer.init_state(BATCH, LENGTH, cache)
        _, state = layer.step(x[:, :3], state)
        return layer.step(x[:, 3:9], state, num_queries=1, **options)[0]

    def apart():
        state = layer.init_state(BATCH, LENGTH, cache)
        state = layer.remember(x[:, :3], state)
        state = layer.remember(x[:, 3:4], state)
        state = layer.remember(x[:, 4:8], state)
        received, state = layer.step(x[:, 8:9], state, **options)
        return received, state.position

    received, position = run(apart, in_graph)
    assert int(position) == 9
    expected = run(at_once, in_graph)
    assert expected.shape == (BATCH, 1, DIM)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
    if not biased:
        whole = layer(x[:, :9], x[:, :9], use_causal_mask=True)[:, -1:]
        np.testing.assert_allclose(received, whole, rtol=1e-4, atol=1e-5)
