import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import Greedy


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_takes_the_most_probable(jit_compile):
    logits = np.random.normal(size=(50, 9)).astype("float32")
    logits[:, 4] = -1e9
    choose = Greedy().choose
    if jit_compile is not None:
        choose = tf.function(choose, jit_compile=jit_compile, autograph=False)
    ids, log_p = choose(tf.constant(logits), tf.constant(3))
    np.testing.assert_array_equal(ids, logits.argmax(axis=1))
    exact = logits.astype("float64")
    exact = exact.max(axis=1) - np.log(np.exp(exact).sum(axis=1))
    np.testing.assert_allclose(log_p, exact, rtol=1e-5)
    assert ids.dtype == tf.int32
    assert log_p.dtype == tf.float32


def test_of_equals_takes_the_first():
    ids, _ = Greedy().choose(tf.constant([[0.0, 1.0, 1.0]]), 0)
    assert ids[0] == 1


def test_tells_apart_what_rounds_to_equal_probabilities():
    nearly = np.nextafter(np.float32(0.25), np.float32(1.0))
    logits = tf.constant([[0.25, nearly, -3.0, -1.0]])
    log_p = tf.nn.log_softmax(logits)[0]
    assert log_p[0] == log_p[1]
    ids, chosen = Greedy().choose(logits, 0)
    assert ids[0] == 1 and chosen[0] == log_p[1]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_of_broken_logits_chooses_none(place, broken, jit_compile):
    logits = np.float32([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    logits[0, place] = broken
    choose = tf.function(
        Greedy().choose, jit_compile=jit_compile, autograph=False
    )
    ids, log_p = choose(tf.constant(logits), tf.constant(0))
    assert ids.numpy().tolist() == [0, 1]
    assert np.isnan(log_p).tolist() == [True, False]


def test_all_are_equal():
    assert Greedy() == Greedy()
    assert len({Greedy(), Greedy()}) == 1
