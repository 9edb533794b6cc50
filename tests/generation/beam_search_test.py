import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from keras_moe.generation import BeamSearch
from keras_moe.generation import Greedy
from keras_moe.generation import decode
from keras_moe.models import SwitchTransformer
from tests.generation.beam_search_case import Markov
from tests.generation.beam_search_case import assert_answers
from tests.generation.beam_search_case import beam_search
from tests.generation.beam_search_case import markov
from tests.generation.beam_search_case import sources
from tests.reference.beam_search import beam_search as slow_beam_search
from tests.reference.beam_search import exhaustive

# === Against references ===


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("ids", [{}, {"pad_id": 3, "end_id": 2, "start_id": 1}])
def test_wide_beams_find_the_best_of_all(length_penalty, ids):
    # 3 * 3 * 3 * 3 answers at most: no beam is ever dropped.
    model = markov(40, vocabulary=4, **ids)
    received = beam_search(model, sources(model), 4, 81, length_penalty)
    expected = [
        exhaustive(
            model.next_log_p(source), model.config.end_id, 4, length_penalty
        )
        for source in range(40)
    ]
    assert_answers(received, expected, model.config.pad_id)
    if not ids:
        lengths = {len(said) for said, *_ in expected}
        assert lengths == {1, 2, 3, 4}


@hypothesis.given(
    seed=st.integers(0, 2**31),
    num_beams=st.integers(1, 7),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0, 2.5]),
    max_length=st.integers(1, 8),
    vocabulary=st.integers(3, 7),
    end=st.sampled_from([-3.0, 0.0, 2.0]),
)
def test_narrow_beams_follow_the_slow_search(
    seed, num_beams, length_penalty, max_length, vocabulary, end
):
    model = markov(8, vocabulary, seed, end)
    received = beam_search(
        model, sources(model), max_length, num_beams, length_penalty
    )
    expected = [
        slow_beam_search(
            model.next_log_p(source), 1, max_length, num_beams, length_penalty
        )
        for source in range(8)
    ]
    assert_answers(received, expected)


@pytest.mark.parametrize("end", [-4.0, 0.0, 3.0])
def test_one_beam_is_greedy_on_tables(end):
    model = markov(64, vocabulary=6, end=end)
    received = beam_search(model, sources(model), 7, 1, 0.0)
    expected = decode(model, sources(model), 7, Greedy())
    np.testing.assert_array_equal(received["token_ids"], expected["token_ids"])
    np.testing.assert_allclose(
        received["log_probability"], expected["log_probability"], rtol=1e-5
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_graph(jit_compile):
    model = markov(12, vocabulary=5)
    search = tf.function(
        lambda source: beam_search(model, source, 5, 3),
        input_signature=[tf.TensorSpec((None, None), tf.int32)],
        jit_compile=jit_compile,
        autograph=False,
    )
    for source in (sources(model), sources(model)[3:5]):
        received, expected = search(source), beam_search(model, source, 5, 3)
        np.testing.assert_array_equal(
            received["token_ids"], expected["token_ids"]
        )
        for name in ("log_probability", "score"):
            np.testing.assert_allclose(
                received[name], expected[name], rtol=1e-5
            )
            assert received[name].dtype == tf.float32
        assert received["token_ids"].dtype == tf.int32


def test_rows_do_not_know_each_other():
    # Some end at once, some never.
    model = markov(20, vocabulary=5, end=1.0)
    together = beam_search(model, sources(model), 7, 3)
    for row in range(20):
        alone = beam_search(model, sources(model)[row : row + 1], 7, 3)
        np.testing.assert_array_equal(
            alone["token_ids"][0], together["token_ids"][row]
        )
        # Not to the bit: TensorFlow's softmax sums rows as they lie.
        np.testing.assert_allclose(
            alone["score"][0], together["score"][row], rtol=1e-6
        )


# === Rules ===


def lengths_differ(end):
    """Ends with this probability at each step, else says 2."""
    logits = [-1e9, np.log(end), np.log(1 - end)]
    return Markov(np.broadcast_to(logits, (1, 3, 3, 3)))


@pytest.mark.parametrize(
    "end, length_penalty, steps, length",
    [
        # The rest has 0.25, or even 1 - 0.75: never better than the end.
        (0.75, 0.0, 1, 1),
        (0.51, 0.0, 1, 1),
        # 0.49 / (5 / 6 + 10 / 6) ** 3 might still be better, and is not.
        (0.51, 3.0, 10, 10),
        # log(0.1) / 15.6 < log(0.9) / 1.
        (0.9, 3.0, 1, 1),
        # An end that is worse than going on waits for what is better.
        (0.4, 0.0, 2, 1),
    ],
)
def test_stops_when_nothing_can_be_better(end, length_penalty, steps, length):
    model = lengths_differ(end)
    received = beam_search(model, [[10]], 10, 2, length_penalty)
    assert model.steps == steps
    said, log_p, value = exhaustive(model.next_log_p(0), 1, 10, length_penalty)
    assert len(said) == length
    assert_answers(received, [(said, log_p, value)])


def test_an_end_beyond_the_beams_is_no_answer():
    # Greedy would go on; the end, second best, must not stop it.
    model = lengths_differ(0.4)
    one = beam_search(model, [[10]], 3, 1, 0.0)
    np.testing.assert_array_equal(one["token_ids"], [[2, 2, 2]])
    two = beam_search(model, [[10]], 3, 2, 0.0)
    np.testing.assert_array_equal(two["token_ids"], [[1, 0, 0]])


def test_whole_answers_go_before_answers_cut_off():
    model = lengths_differ(0.01)
    received = beam_search(model, [[10]], 3, 2, 0.0)
    np.testing.assert_array_equal(received["token_ids"], [[1, 0, 0]])


def test_never_says_padding():
    tables = np.zeros((1, 4, 4, 4))
    tables[..., 0] = 50.0  # wants nothing but padding
    tables[..., 1] = -1e9
    received = beam_search(Markov(tables), [[10]], 4, 3)
    assert np.all(received["token_ids"].numpy() >= 2)
    np.testing.assert_allclose(
        received["log_probability"], 4 * np.log(0.5), rtol=1e-5
    )


def test_more_beams_than_answers():
    # One word and the end; after the first step the end alone.
    tables = np.full((1, 3, 3, 3), -1e9)
    tables[..., 1] = 0.0
    tables[0, 0, 0, 2] = 1.0
    received = beam_search(Markov(tables), [[10]], 5, 8, 0.0)
    np.testing.assert_array_equal(received["token_ids"], [[2, 1, 0, 0, 0]])
    np.testing.assert_allclose(
        received["score"], -np.log1p(np.exp(-1)), rtol=1e-5
    )


@pytest.mark.parametrize("pad_id", [0, 2])
def test_nothing_to_say(pad_id):
    model = markov(4, vocabulary=4, pad_id=pad_id)
    source = tf.constant([[1, 3], [pad_id, pad_id], [3, pad_id]])
    received = beam_search(model, source, 4, 3)
    assert np.all(received["token_ids"][1] == pad_id)
    assert received["log_probability"][1] == 0.0
    assert received["score"][1] == 0.0
    assert np.all(received["log_probability"].numpy()[[0, 2]] < 0.0)
    model.steps = 0
    received = beam_search(model, source[1:2], 4, 3)
    assert model.steps == 0
    assert np.all(received["token_ids"] == pad_id)


@pytest.mark.parametrize("shape", [(0, 4), (2, 0), (0, 0)])
def test_from_nothing(shape):
    model = SwitchTransformer.from_preset("switch_tiny")
    received = beam_search(model, tf.zeros(shape, tf.int32), 3)
    assert received["token_ids"].shape == (shape[0], 3)
    assert not np.any(received["token_ids"])


# === Arguments ===


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_beams": 0}, "`num_beams` must be a positive integer"),
        ({"num_beams": 1.5}, "Received: num_beams=1.5"),
        ({"length_penalty": -0.1}, "must be finite and not negative"),
        ({"length_penalty": float("inf")}, "Received: length_penalty=inf"),
        ({"length_penalty": float("nan")}, "`length_penalty` must be finite"),
    ],
)
def test_refuses(settings, message):
    model = markov(1, vocabulary=3)
    with pytest.raises(ValueError, match=message):
        BeamSearch(**settings)
    with pytest.raises(ValueError, match=message):
        beam_search(model, sources(model), 4, **settings)
    assert model.steps == 0


def test_refuses_no_length():
    model = markov(1, vocabulary=3)
    with pytest.raises(ValueError, match="`max_length` must be a positive"):
        beam_search(model, sources(model), 0)


def test_equal_settings_are_one_key():
    assert len({BeamSearch(3), BeamSearch(num_beams=3)}) == 1
    assert len({BeamSearch(3), BeamSearch(3, 1.0)}) == 2
