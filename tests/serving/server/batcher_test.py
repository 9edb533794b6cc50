"""Batching: rows are what they are alone, and requests do run together."""

import concurrent.futures
import threading

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_moe import serving
from keras_moe.serving.protocol import _tensor_codec as tensor_codec
from keras_moe.serving.server._batcher import Batcher
from keras_moe.serving.server._servable import Servable
from tests.serving import toy_model

WORDS = st.lists(st.text(max_size=5), max_size=4)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="module")
def servable(models):
    servable = Servable(models[2], 1)
    yield servable
    servable.close()


class SlowRunner:
    """Holds the first run until `size` more requests have begun to wait."""

    def __init__(self, runner, batcher, size):
        self.runner, self.batcher, self.size = runner, batcher, size
        self.rows = []

    def __call__(self, *inputs):
        self.rows.append(len(inputs[0]))
        if len(self.rows) == 1:
            while sum(map(len, self.batcher._waiting.values())) < self.size:
                threading.Event().wait(0.001)
        return self.runner(*inputs)


def run_together(servable, requests, signature_name, max_rows=64):
    """Gives the answers (or errors), and the rows of each run."""
    signature = servable.signature(signature_name)
    batcher = Batcher(max_rows)
    first = {
        "serving_default": [np.array([b"first"], object)],
        "number": [np.array([b"1"], object)],
        "ratio": [np.ones((1, 2), np.float32)],
        "with_threshold": [np.ones(1, np.float32), np.array([b"a"], object)],
    }[signature_name]
    runner = SlowRunner(servable.runner(signature), batcher, len(requests))

    def ask(feeds):
        try:
            return batcher.submit(runner, signature, feeds)
        except tf.errors.OpError as error:
            return type(error)

    with concurrent.futures.ThreadPoolExecutor(len(requests) + 1) as pool:
        leader = pool.submit(ask, first)
        while not runner.rows:
            threading.Event().wait(0.001)
        answers = list(pool.map(ask, requests))
        leader.result()
    assert not batcher._waiting
    return answers, runner.rows[1:]


def alone(servable, feeds, signature_name):
    signature = servable.signature(signature_name)
    runner = servable.runner(signature)
    try:
        return runner(*feeds)
    except tf.errors.OpError as error:
        return type(error)


def assert_same(together, expected):
    if isinstance(expected, type):
        assert together is expected
        return
    for left, right in zip(together, expected, strict=True):
        right = np.asarray(right)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(WORDS, min_size=1, max_size=6), rows=st.integers(1, 9))
def test_words_are_what_they_are_alone(servable, requests, rows):
    feeds = [
        [np.array([word.encode() for word in words], object)]
        for words in requests
    ]

    answers, runs = run_together(servable, feeds, "serving_default", rows)

    for answer, feed in zip(answers, feeds, strict=True):
        assert_same(answer, alone(servable, feed, "serving_default"))
    assert sum(runs) == sum(map(len, requests))
    longest = max(map(len, requests))
    assert all(run <= max(rows, longest) for run in runs)


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(
        st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=3),
        min_size=1,
        max_size=6,
    )
)
def test_numbers_are_what_they_are_alone(servable, requests):
    feeds = [[np.array(pairs, np.float32)] for pairs in requests]
    answers, _ = run_together(servable, feeds, "ratio")
    for answer, feed in zip(answers, feeds, strict=True):
        assert_same(answer, alone(servable, feed, "ratio"))


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.sampled_from(["1", "2.5", "no"]), min_size=1))
def test_a_bad_row_fails_its_own_request_alone(servable, texts):
    feeds = [[np.array([text.encode()], object)] for text in texts]
    # `raw_bytes` and `value` have a row each.
    answers, _ = run_together(servable, feeds, "number")
    for answer, feed in zip(answers, feeds, strict=True):
        assert_same(answer, alone(servable, feed, "number"))


def test_requests_that_wait_run_together(servable):
    feeds = [[np.array([b"ab"], object)] for _ in range(8)]
    _, runs = run_together(servable, feeds, "serving_default")
    assert runs == [8]
    _, runs = run_together(servable, feeds, "serving_default", max_rows=3)
    assert runs == [3, 3, 2]


def test_several_inputs_are_joined(servable):
    feeds = [
        [np.array([threshold], np.float32), np.array([b"abc"], object)]
        for threshold in (1.0, 6.0, 7.0)
    ]
    answers, runs = run_together(servable, feeds, "with_threshold")
    assert [answer[0].tolist() for answer in answers] == [[1], [1], [0]]
    assert runs == [3]


def test_outputs_without_rows_are_not_joined(servable):
    signature = servable.signature("count")
    batcher = Batcher(64)
    runner = servable.runner(signature)

    def ask(words):
        feeds = [tensor_codec.as_array(words)]
        count, first = batcher.submit(runner, signature, feeds)
        return int(count), first

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [["a"], ["b", "c"]] * 20))
    assert answers == [(1, b"a"), (2, b"b")] * 20


class Padded(tf.Module):
    """An output as wide as the longest word of the batch."""

    @tf.function(input_signature=[toy_model.WORDS])
    def serving_default(self, word):
        letters = tf.strings.unicode_decode(word, "UTF-8")
        return {"letters": letters.to_tensor(0)}


def test_a_neighbour_never_widens_an_answer(tmp_path):
    model = Padded()
    tf.saved_model.save(model, str(tmp_path / "toy/1"), model.serving_default)
    with serving.Server(
        "toy", tmp_path / "toy", poll_seconds=0.05, max_batch_rows=32
    ) as server:
        server.wait_until_available()
        with serving.Client(
            grpc_port=server.grpc_port, model_name="toy"
        ) as client:

            def width(word):
                return client.predict({"word": [word]})["letters"].shape[1]

            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                widths = list(pool.map(width, ["a", "a" * 50] * 30))
    assert widths == [1, 50] * 30


def test_server_batches(models, tmp_path):
    base = tmp_path / "toy"
    toy_model.push(models[2], base, 1)
    with serving.Server(
        "toy", base, poll_seconds=0.05, max_batch_rows=8
    ) as server:
        server.wait_until_available()
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="toy",
        ) as client:

            def score(size):
                ask = (client.predict, client.predict_rest)[size % 2]
                return ask({"word": ["x" * size]})["score"].tolist()

            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                scores = list(pool.map(score, range(200)))
    assert scores == [[2.0 * size] for size in range(200)]


def test_bad_argument():
    with pytest.raises(ValueError, match="`max_rows`"):
        Batcher(0)
