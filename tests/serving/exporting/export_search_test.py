"""A search as it is served: identifiers, scores, and rows that are refused."""

import numpy as np
import pytest
import tensorflow as tf

from keras_moe import layers
from keras_moe import retrieval
from keras_moe import serving

NAMES = [f"row-{number}" for number in range(20)]
ROWS = np.random.default_rng(0).normal(size=[20, 4]).astype("float32")


def encode(texts):
    """A text is the number of a row, but for those that are refused."""
    number = tf.strings.regex_full_match(texts, r"\d+")
    row = tf.strings.to_number(tf.where(number, texts, "0"), tf.int32)
    embedding = tf.gather(tf.constant(ROWS), row)
    endless = tf.equal(texts, "13")[:, tf.newaxis]
    return {
        "embedding": tf.where(endless, np.inf, embedding),
        "status": tf.where(number, "ok", "no_number"),
    }


@pytest.fixture(scope="module")
def search():
    return layers.Retrieval(ROWS, NAMES, k=6)


@pytest.fixture(scope="module")
def directory(search, tmp_path_factory):
    directory = tmp_path_factory.mktemp("served") / "search" / "1"
    serving.export_search(directory, encode, search, default_k=3)
    return directory


@pytest.fixture(scope="module")
def signatures(directory):
    model = tf.saved_model.load(str(directory))
    yield model.signatures
    del model


@pytest.fixture(scope="module")
def client(directory):
    """Of an embedded server."""
    base = directory.parent
    with serving.Server("search", base, poll_seconds=0.05) as server:
        server.wait_until_available()
        with serving.Client(
            grpc_port=server.grpc_port,
            rest_port=server.rest_port,
            model_name="search",
        ) as client:
            yield client


def nearest(number, k):
    order = np.argsort(-(ROWS @ ROWS[number]), kind="stable")[:k]
    return [NAMES[row].encode() for row in order]


def test_a_text_finds_what_an_obvious_search_finds(signatures):
    answer = signatures["serving_default"](query=tf.constant(["7", "2"]))
    assert answer["identifiers"].numpy().tolist() == [
        nearest(7, 3),
        nearest(2, 3),
    ]
    assert answer["status"].numpy().tolist() == [b"ok", b"ok"]
    expected = np.sort(ROWS @ ROWS[7])[::-1][:3]
    np.testing.assert_allclose(answer["scores"][0], expected, rtol=1e-5)


@pytest.mark.parametrize(("k", "found"), [(1, 1), (5, 5), (6, 6), (60, 6)])
def test_each_request_chooses_how_many(signatures, k, found):
    answer = signatures["search"](query=tf.constant(["4"]), k=tf.constant(k))
    assert answer["identifiers"].numpy().tolist() == [nearest(4, found)]
    assert answer["scores"].shape == [1, found]


def test_a_refused_row_has_a_status_and_no_answer(signatures):
    answer = signatures["serving_default"](query=tf.constant(["x", "5", "13"]))
    assert answer["status"].numpy().tolist() == [
        *(b"no_number", b"ok", b"not_finite")
    ]
    names = answer["identifiers"].numpy().tolist()
    assert names == [[b""] * 3, nearest(5, 3), [b""] * 3]
    assert answer["scores"][0].numpy().tolist() == [0.0, 0.0, 0.0]
    assert answer["scores"][2].numpy().tolist() == [0.0, 0.0, 0.0]


def test_nothing_is_asked(signatures):
    answer = signatures["serving_default"](query=tf.constant([], tf.string))
    assert answer["identifiers"].shape == [0, 3]


def example(key, text):
    value = tf.train.BytesList(value=[text])
    features = {key: tf.train.Feature(bytes_list=value)}
    made = tf.train.Example(features=tf.train.Features(feature=features))
    return tf.constant([made.SerializeToString()])


def test_examples_get_all_answers(signatures):
    answer = signatures["examples"](examples=example("query", b"9"))
    assert answer["identifiers"].numpy().tolist() == [nearest(9, 6)]


def test_examples_may_call_the_text_otherwise(search, tmp_path):
    serving.export_search(
        tmp_path / "1", encode, search, 3, example_key="title"
    )
    served = tf.saved_model.load(str(tmp_path / "1"))
    answer = served.signatures["examples"](examples=example("title", b"9"))
    assert answer["identifiers"].numpy().tolist() == [nearest(9, 6)]


def test_the_embedded_server_lets_each_request_choose(client):
    request = {"query": ["3", "?"], "k": np.int32(2)}
    for predict in (client.predict, client.predict_rest):
        answer = predict(request, signature_name="search")
        assert answer["identifiers"].tolist() == [
            nearest(3, 2),
            [b"", b""],
        ]
        assert answer["status"].tolist() == [b"ok", b"no_number"]


@pytest.mark.parametrize("k", [0, -1])
def test_no_answers_are_no_request(client, signatures, k):
    said = f"`k` must be a positive integer. Received: k =.*{k}"
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        signatures["search"](query=tf.constant(["4"]), k=tf.constant(k))
    for predict in (client.predict, client.predict_rest):
        with pytest.raises(Exception, match=said):
            predict({"query": ["3"], "k": np.int32(k)}, signature_name="search")


def test_integers_name_no_answer_with_minus_one(tmp_path):
    search = layers.Retrieval(ROWS, np.arange(100, 120), k=2)
    serving.export_search(tmp_path / "1", encode, search, default_k=2)
    served = tf.saved_model.load(str(tmp_path / "1"))
    answer = served.signatures["serving_default"](query=tf.constant(["?", "0"]))
    assert answer["identifiers"][0].numpy().tolist() == [-1, -1]
    assert answer["identifiers"][1, 0].numpy() >= 100


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda texts: tf.zeros([2, 4]), "a dictionary with `embedding`"),
        (lambda texts: {"vector": 1}, "a dictionary with `embedding`"),
        (
            lambda texts: {"embedding": tf.zeros([4])},
            r"floats \(batch, dim\)",
        ),
        (
            lambda texts: {"embedding": tf.ones([tf.size(texts), 4], "int32")},
            r"floats \(batch, dim\). Received: int32",
        ),
        (
            lambda texts: {"embedding": tf.zeros([tf.size(texts), 5])},
            "size of candidates, 4",
        ),
    ],
)
def test_what_does_not_encode_is_refused(search, tmp_path, encode, message):
    with pytest.raises(ValueError, match=message):
        serving.export_search(tmp_path / "1", encode, search, default_k=3)
    assert not (tmp_path / "1").exists()


def test_a_search_without_scores_is_refused(tmp_path):
    for search in (
        layers.Retrieval(ROWS, NAMES, k=6, return_scores=False),
        retrieval.BlockIndex(ROWS, NAMES, k=6, return_scores=False),
    ):
        with pytest.raises(ValueError, match="with return_scores=True"):
            serving.export_search(tmp_path / "1", encode, search, default_k=3)
        assert not (tmp_path / "1").exists()


def test_more_answers_than_the_search_has(search, tmp_path):
    with pytest.raises(ValueError, match="at most the k of `search`, 6"):
        serving.export_search(tmp_path / "1", encode, search)
