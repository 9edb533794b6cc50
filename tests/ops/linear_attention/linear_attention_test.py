import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe.ops.linear_attention._causal import causal_attention
from keras_moe.ops.linear_attention._state import LinearAttentionState
from tests.covering import covering
from tests.ops.linear_attention.linear_attention_case import BATCH
from tests.ops.linear_attention.linear_attention_case import DRAWS
from tests.ops.linear_attention.linear_attention_case import HEADS
from tests.ops.linear_attention.linear_attention_case import VALUE_DIM
from tests.ops.linear_attention.linear_attention_case import Case

MODES = ("bidirectional", "causal", "causal_segments", "segments")
# With their names, whether they are antithetic.
KERNELS = (
    ("softmax", False),
    ("softmax", True),
    ("relu", False),
    ("elu", False),
)
# With and without a last chunk that is not full.
CHUNKS = {"bidirectional": (7, 8, 64), "causal": (4, 16, 64)}


def error(received, expected):
    received, expected = np.asarray(received), np.asarray(expected)
    return np.linalg.norm(received - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("mode", "kernel", "scale"),
    covering(MODES, KERNELS, [0.5, 1.0, 4.0, 8.0], strength=1),
)
def test_equals_all_pairs_in_float64(mode, kernel, scale):
    case = Case(mode, *kernel, scale=scale)
    assert error(case.run(), case.expected()) < 1e-5


@settings(max_examples=15, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    length=st.integers(1, 40),
    group=st.integers(1, 3),
    hidden=st.sampled_from([0.0, 0.5, 0.95]),
    scale=st.sampled_from([1.0, 6.0]),
    seed=st.integers(0, 1000),
)
def test_equals_all_pairs_at_any_size(mode, **sizes):
    case = Case(mode, **sizes)
    np.testing.assert_allclose(
        case.run(), case.expected(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("mode", ["bidirectional", "causal"])
def test_chunks_do_not_matter(mode):
    case = Case(mode, length=50)
    for size in CHUNKS[mode]:
        assert error(case.run(chunk_size=size), case.expected()) < 1e-6


def test_queries_and_keys_of_different_lengths():
    case = Case(length=9, source_length=30)
    assert error(case.run(chunk_size=8), case.expected()) < 1e-6


def gradients(function, inputs, upstream):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
        loss = tf.reduce_sum(outputs * tf.cast(upstream, outputs.dtype))
    return tape.gradient(loss, inputs)


def all_pairs(case, *inputs):
    """`Case.expected`, differentiable."""
    queries, keys, values = (tf.cast(x, tf.float64) for x in inputs)
    map_ = case.map._replace(
        **{
            name: tf.cast(value, tf.float64)
            for name, value in case.map._asdict().items()
            if name not in ("kernel", "antithetic")
        }
    )

    def log_features(x):
        p = tf.einsum("bngtd,nmd->bngtm", x, map_.projection)
        if map_.antithetic:
            p = tf.concat([p, -p], axis=-1)
        if map_.kernel == "relu":
            return tf.math.log(tf.nn.relu(p) + 1e-3)
        if map_.kernel == "elu":
            return tf.where(p > 0, tf.math.log1p(tf.nn.relu(p)), p)
        return p

    of_queries = log_features(queries * map_.query_scale - map_.query_shift)
    keys = keys * map_.key_scale - map_.key_shift
    of_keys = log_features(keys) + map_.log_weights[:, None, None, :]
    if map_.kernel == "softmax":
        weight = keys * map_.taken - 0.5 * keys**2
        of_keys += tf.reduce_sum(weight, axis=-1, keepdims=True)
    pairs = of_queries[..., :, None, :] + of_keys[..., None, :, :]
    logits = tf.reduce_logsumexp(pairs, axis=-1)
    length = queries.shape[3]
    seen = np.ones((BATCH, length, length), bool)
    if case.visible is not None:
        seen = seen & case.visible[:, None, :]
    if case.mode.startswith("causal"):
        seen = seen & np.tril(np.ones((length, length), bool))
    if "segments" in case.mode:
        ids = case.segment_ids
        seen = seen & (ids[:, :, None] == ids[:, None, :])
    seen = np.broadcast_to(seen[:, None, None], logits.shape)
    some = seen.any(axis=-1, keepdims=True)
    weights = tf.nn.softmax(tf.where(seen | ~some, logits, -1e300), axis=-1)
    return tf.matmul(tf.where(some, weights, 0.0), values)


@pytest.mark.parametrize(
    ("mode", "kernel", "inputs"),
    covering(MODES, KERNELS, [(1.0, 0.0), (1.0, 0.3), (4.0, 0.3)], strength=1),
)
def test_gradients_equal_those_of_all_pairs(mode, kernel, inputs):
    scale, hidden = inputs
    case = Case(mode, *kernel, scale=scale, hidden=hidden, length=30)
    shape = (*case.queries.shape[:-1], VALUE_DIM)
    upstream = np.random.default_rng(1).normal(size=shape)
    chunks = {} if mode == "segments" else {"chunk_size": 8}
    received = gradients(
        lambda *inputs: case.run(*inputs, **chunks), case.inputs, upstream
    )
    expected = gradients(
        lambda *inputs: all_pairs(case, *inputs), case.inputs, upstream
    )
    for each, other in zip(received, expected, strict=True):
        assert error(each, other) < 2e-5


def test_the_differentiable_reference_is_the_reference():
    for mode in MODES:
        case = Case(mode)
        reference = all_pairs(case, *case.inputs)
        np.testing.assert_allclose(reference, case.expected(), atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_hidden_keys_change_no_bit(mode):
    case = Case(mode, length=37)
    expected = case.run().numpy()
    hidden = ~case.visible[:, None, None, :, None]
    for content in (0.0, 1e4, -1e4):
        for name in ("keys", "values"):
            array = np.where(hidden, content, getattr(case, name))
            setattr(case, name, array.astype("float32"))
        np.testing.assert_array_equal(case.run(), expected)


def test_later_keys_change_no_bit():
    case = Case("causal", length=150, scale=3.0)
    expected = case.run().numpy()
    for start in (1, 64, 127, 149):
        changed = Case("causal", length=150, scale=3.0)
        for name in ("queries", "keys", "values"):
            getattr(changed, name)[:, :, :, start:] *= 30.0
        received = changed.run().numpy()
        np.testing.assert_array_equal(
            received[:, :, :, :start], expected[:, :, :, :start]
        )
        assert (received[:, :, :, start:] != expected[:, :, :, start:]).any()


@pytest.mark.parametrize("mode", ["segments", "causal_segments"])
def test_other_segments_change_no_bit(mode):
    case = Case(mode, length=60, hidden=0.0)
    expected = case.run().numpy()
    other = case.segment_ids != 2
    for name in ("queries", "keys", "values"):
        array = getattr(case, name)
        loud = np.where(other[:, None, None, :, None], 40.0 * array, array)
        setattr(case, name, loud.astype("float32"))
    received = case.run().numpy()
    for row in range(BATCH):
        own = case.segment_ids[row] == 2
        assert own.any()
        np.testing.assert_array_equal(
            received[row, :, :, own], expected[row, :, :, own]
        )


def test_rows_that_see_nothing_are_zero_and_give_no_gradient():
    for mode in MODES:
        case = Case(mode, length=20)
        case.visible[:] = False
        upstream = np.ones((*case.queries.shape[:-1], VALUE_DIM))
        assert not np.asarray(case.run()).any()
        for gradient in gradients(case.run, case.inputs, upstream):
            assert not np.asarray(gradient).any()


def test_a_large_later_key_does_not_drown_earlier_rows():
    """The denominator of an early row would vanish under a common maximum."""
    case = Case("causal", length=64, scale=1.0, hidden=0.0)
    case.keys[:, :, :, -1] *= 200.0
    received = case.run().numpy()
    assert error(received, case.expected()) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_a_state_carries_on(scale):
    case = Case("causal", length=50, group=2, scale=scale)
    whole = case.run().numpy()
    state = LinearAttentionState.empty((BATCH, HEADS, 1), DRAWS, VALUE_DIM)
    parts = []
    for start, end in ((0, 1), (1, 2), (2, 33), (33, 50)):
        arrays = (x[:, :, :, start:end] for x in case.inputs)
        visible = tf.constant(case.visible[:, None, None, start:end])
        gathered, state = causal_attention(
            *arrays, visible, case.map, initial_state=state
        )
        parts.append(gathered.mean())
    assert error(np.concatenate(parts, axis=3), whole) < 1e-6


# Segments are causal segments from either side: by default they stand for them.
@pytest.mark.parametrize(
    ("inputs", "compiled"),
    [
        (("bidirectional", 0.0), True),
        (("bidirectional", 0.3), False),
        (("causal", 0.0), True),
        (("segments", 0.3), False),
        *(
            pytest.param(*case, marks=pytest.mark.large)
            for case in (
                (("bidirectional", 0.0), False),
                (("bidirectional", 0.3), True),
                (("causal", 0.0), False),
                (("causal_segments", 0.3), False),
                (("causal_segments", 0.3), True),
                (("segments", 0.3), True),
            )
        ),
    ],
)
def test_shapes_may_be_dynamic_or_compiled(inputs, compiled):
    mode, hidden = inputs
    case = Case(mode, length=30, hidden=hidden)
    upstream = np.random.default_rng(1).normal(
        size=(*case.queries.shape[:-1], VALUE_DIM)
    )

    def both(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = case.run(*inputs)
            loss = tf.reduce_sum(outputs * tf.cast(upstream, tf.float32))
        return outputs, *tape.gradient(loss, inputs)

    expected = both(*case.inputs)

    def any_length(x):
        sizes = [None if i in (0, 3) else n for i, n in enumerate(x.shape)]
        return tf.TensorSpec(sizes)

    signature = [any_length(x) for x in case.inputs]
    if compiled:
        function = tf.function(both, jit_compile=True, autograph=False)
    else:
        function = tf.function(both, input_signature=signature, autograph=False)
    for received, each in zip(function(*case.inputs), expected, strict=True):
        assert error(received, each) < 1e-5
