import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_moe.losses import load_balancing_loss
from keras_moe.losses import router_z_loss
from keras_moe.losses import token_crossentropy
from tests.reference import losses as reference

SHAPES = {
    "groups": st.integers(1, 3),
    "tokens": st.integers(1, 8),
    "experts": st.integers(1, 5),
    "share": st.sampled_from([0.0, 0.5, 1.0]),
    "seed": st.integers(0, 999),
}


CHOICES = {**SHAPES, "choices": st.integers(1, 3)}


def draw(groups, tokens, experts, share, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(groups, tokens, experts)).astype("float32")
    return logits, rng.random((groups, tokens)) < share


@given(**SHAPES)
def test_router_losses_equal_the_loops(**shape):
    logits, mask = draw(**shape)
    probabilities = tf.nn.softmax(logits).numpy()
    for m in (mask, None):
        np.testing.assert_allclose(
            load_balancing_loss(probabilities, m),
            reference.load_balancing(probabilities, m),
            rtol=1e-4,
            atol=1e-6,
        )
        np.testing.assert_allclose(
            router_z_loss(logits, m),
            reference.router_z(logits, m),
            rtol=1e-4,
            atol=1e-6,
        )


@given(**CHOICES)
def test_balance_of_many_choices_equals_the_loop(choices, **shape):
    logits, mask = draw(**shape)
    experts = shape["experts"]
    probabilities = tf.nn.softmax(logits).numpy()
    # The last index stands for a choice that was refused.
    index = np.random.default_rng(shape["seed"]).integers(
        0, experts + 1, (*mask.shape, choices)
    )
    for m in (mask, None):
        np.testing.assert_allclose(
            load_balancing_loss(probabilities, m, index),
            reference.load_balancing(probabilities, m, index),
            rtol=1e-4,
            atol=1e-6,
        )
        # One loss for all groups, whatever the group.
        pooled = load_balancing_loss(
            probabilities, m, index, across_replicas=True
        )
        one = (1, -1)
        expected = reference.load_balancing(
            probabilities.reshape(*one, experts),
            None if m is None else m.reshape(one),
            index.reshape(*one, choices),
        )
        np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("choices", range(1, 9))
def test_even_is_one_for_any_number_of_choices(choices, across):
    def loss(probabilities, index):
        return float(
            load_balancing_loss(
                probabilities, expert_index=index, across_replicas=across
            )
        )

    # Token s asks for the experts s, s + 1, ..., as sure as can be.
    index = (np.arange(8)[:, None] + np.arange(choices)) % 8
    probabilities = np.eye(8)[index].mean(-2)
    assert loss(probabilities[None], index[None]) == pytest.approx(1.0)
    # An even router is even whomever it asks.
    flat = np.full((1, 8, 8), 1 / 8)
    same = np.tile(np.arange(choices), (1, 8, 1))
    assert loss(flat, same) == pytest.approx(1.0)
    # Everybody asks the same.
    collapsed = np.repeat(probabilities[:1], 8, axis=0)
    assert loss(collapsed[None], same) == pytest.approx(8 / choices)


@given(**CHOICES)
def test_refused_choices_and_padding_have_no_say(choices, **shape):
    logits, mask = draw(**shape)
    experts = shape["experts"]
    probabilities = tf.nn.softmax(logits).numpy()
    rng = np.random.default_rng(shape["seed"])
    index = rng.integers(0, experts, (*mask.shape, choices))
    more = np.concatenate([index, np.full_like(index, experts)], -1)
    padded = np.where(mask[..., None], index, 0)
    for across in (False, True):
        expected, *others = (
            float(load_balancing_loss(probabilities, mask, i, across))
            for i in (index, more, padded)
        )
        assert others == pytest.approx([expected] * 2)


def test_index_needs_all_axes():
    with pytest.raises(ValueError, match=r"shape \[groups, tokens, choices\]"):
        load_balancing_loss(np.ones((1, 2, 3)), expert_index=[[0, 1]])


@pytest.mark.parametrize("experts", [1, 2, 8])
def test_even_is_one_and_collapse_is_the_number_of_experts(experts):
    even = np.eye(experts, dtype="float32")[None]
    assert float(load_balancing_loss(even)) == pytest.approx(1.0)
    collapsed = np.repeat(even[:, :1], experts, axis=1)
    assert float(load_balancing_loss(collapsed)) == pytest.approx(experts)


def test_opposite_collapses_do_not_cancel():
    # Pooling groups before the product would report a perfect 1.0.
    one, other = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], "float32")
    both = np.stack([np.repeat(one, 4, 0), np.repeat(other, 4, 0)])
    assert float(load_balancing_loss(both)) == pytest.approx(2.0)


@given(**SHAPES, poison=st.sampled_from([1e30, -1e30, np.inf, np.nan]))
def test_padding_has_no_say(poison, **shape):
    logits, mask = draw(**shape)
    probabilities = tf.nn.softmax(logits).numpy()
    bad = np.where(mask[..., None], logits, poison).astype("float32")
    bad_p = np.where(mask[..., None], probabilities, poison).astype("f")
    more = np.pad(bad, ((0, 1), (0, 3), (0, 0)), constant_values=poison)
    more_p = np.pad(bad_p, ((0, 1), (0, 3), (0, 0)), constant_values=poison)
    more_mask = np.pad(mask, ((0, 1), (0, 3)))
    for loss, clean, dirty, longer in (
        (router_z_loss, logits, bad, more),
        (load_balancing_loss, probabilities, bad_p, more_p),
    ):
        expected = float(loss(clean, mask))
        assert float(loss(dirty, mask)) == pytest.approx(expected)
        assert float(loss(longer, more_mask)) == pytest.approx(expected)
        with tf.GradientTape() as tape:
            x = tf.constant(dirty)
            tape.watch(x)
            value = loss(x, mask)
        gradient = tape.gradient(value, x).numpy()
        assert np.isfinite(gradient).all()
        assert not gradient[~mask].any()


def test_only_the_proxy_carries_a_gradient():
    probabilities = tf.constant([[[0.7, 0.3], [0.6, 0.4], [0.1, 0.9]]])
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        loss = load_balancing_loss(probabilities)
    # E * f_e / tokens, for each token alike.
    expected = np.tile([2 * (2 / 3) / 3, 2 * (1 / 3) / 3], (1, 3, 1))
    np.testing.assert_allclose(
        tape.gradient(loss, probabilities), expected, rtol=1e-5
    )


def test_only_the_proxy_carries_a_gradient_in_a_global_batch():
    probabilities = tf.constant([[[0.7, 0.3]], [[0.6, 0.4]], [[0.1, 0.9]]])
    with tf.GradientTape() as tape:
        tape.watch(probabilities)
        loss = load_balancing_loss(probabilities, across_replicas=True)
    expected = np.tile([2 * (2 / 3) / 3, 2 * (1 / 3) / 3], (3, 1, 1))
    np.testing.assert_allclose(
        tape.gradient(loss, probabilities), expected, rtol=1e-5
    )


def test_half_precision_is_computed_in_float32():
    logits = tf.constant(np.full((1, 3, 2), 300.0), tf.float16)
    # 300 ** 2 overflows float16.
    assert float(router_z_loss(logits)) == pytest.approx(
        (300 + np.log(2)) ** 2, rel=1e-4
    )


@given(
    length=st.integers(1, 6),
    vocabulary=st.integers(2, 7),
    pad_id=st.sampled_from([0, 1]),
    smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 999),
)
def test_crossentropy_equals_the_loop(
    length, vocabulary, pad_id, smoothing, seed
):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, vocabulary, (3, length))
    logits = rng.normal(size=(3, length, vocabulary)).astype("float32") * 4
    received = token_crossentropy(labels, logits, pad_id, smoothing)
    expected = reference.crossentropy(labels, logits, pad_id, smoothing)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)
    # Keras hands labels over in the dtype of the predictions.
    np.testing.assert_allclose(
        token_crossentropy(labels.astype("f"), logits, pad_id, smoothing),
        received,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_crossentropy_gradient_is_finite(smoothing):
    labels = np.array([[1, 2, 0, 0]])
    extreme = np.zeros((1, 4, 3), "float32")
    extreme[0, 0] = [1e4, -1e4, 0]  # sure, and wrong
    extreme[0, 2:] = np.nan  # a padded position may hold anything
    logits = tf.constant(extreme)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = token_crossentropy(labels, logits, label_smoothing=smoothing)
    assert np.isfinite(float(loss))
    gradient = tape.gradient(loss, logits).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[0, 2:].any()


def test_crossentropy_of_nothing_is_zero():
    assert float(token_crossentropy([[0, 0]], np.ones((1, 2, 3)))) == 0.0


def test_a_forbidden_token_costs_nothing():
    # Logits of -inf forbid tokens: no cost unless they are the label.
    logits = np.array([[[0.0, 0.0, -np.inf]]], "float32")
    loss = token_crossentropy([[1]], logits)
    assert float(loss) == pytest.approx(np.log(2))


def test_a_label_left_out_does_not_count():
    logits = np.random.default_rng(0).normal(size=(1, 3, 150))
    alone = float(token_crossentropy([[5]], logits[:, :1]))
    assert float(token_crossentropy([[5, 0, -100]], logits)) == alone
    # The loss of the issue: as cheap as no label, and counted nevertheless.
    with pytest.raises(ValueError, match=r"Received: -100 at \(0, 2\)"):
        token_crossentropy([[5, 0, -100]], logits, ignore_id=None)


@pytest.mark.parametrize("label", [150, 400, -1, 6.5, 2**32 + 5])
def test_a_label_outside_the_vocabulary_is_not_free(label):
    logits = tf.constant(np.random.default_rng(0).normal(size=(1, 2, 150)))
    labels = np.array([[5, label]])
    with pytest.raises(ValueError, match=f"Received: {label}"):
        token_crossentropy(labels, logits)
    loss = tf.function(token_crossentropy)(tf.constant(labels), logits)
    assert np.isnan(float(loss))
