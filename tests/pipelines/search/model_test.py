"""What the encoder reads of a text, saved and served."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipelines.search.model import HashedTerms
from pipelines.search.model import Sizes
from pipelines.search.model import make_model

SIZES = Sizes(num_terms=512, dim=8, max_words=4)
TEXTS = ["A dog; dogs!", "carelessness of the running, dog (2)", "", " -- "]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return make_model(SIZES)


def terms_of(*texts, max_words=4):
    layer = HashedTerms(100_000, max_words)
    return layer(tf.constant(texts)).numpy()


def test_words_of_one_stem_have_a_term_in_common():
    words, stems = terms_of("walk", "Walks", "walking", "walked", "wall").T
    assert len(set(words)) == 5
    assert len(set(stems[:4])) == 1 and stems[4] != stems[0]
    # A stem that is a word is another term.
    assert not set(words) & set(stems)


def test_reads_no_further_than_it_is_told():
    two = terms_of("one two", max_words=2)
    np.testing.assert_array_equal(terms_of("One,two three", max_words=2), two)
    assert terms_of("one two three", max_words=3).shape == (1, 6)


def test_a_text_without_a_word_is_padding():
    rows = terms_of(*TEXTS)
    assert (rows[:2] > 0).any(axis=1).all() and not rows[2:].any()
    np.testing.assert_array_equal(terms_of("", " -- "), [[0], [0]])


def test_a_text_without_a_word_is_found_by_nobody(model):
    vectors = model.encode_queries(tf.constant(TEXTS)).numpy()
    np.testing.assert_array_equal(vectors[2:], 0)
    np.testing.assert_allclose(np.linalg.norm(vectors[:2], axis=1), 1, 1e-6)


def test_other_texts_of_a_batch_change_nothing(model):
    together = model.encode_queries(tf.constant(TEXTS))
    alone = model.encode_queries(tf.constant(TEXTS[:1]))
    np.testing.assert_allclose(together[:1], alone, rtol=1e-6)


def test_is_saved_and_served_by_operations_of_tensorflow(model, tmp_path):
    texts = tf.constant(TEXTS)
    vectors = model.encode_queries(texts)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.encode_queries(texts), vectors)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    answer = served.serve({"query": texts, "document": texts})
    np.testing.assert_allclose(answer["query"], vectors, rtol=1e-6)
    graph = served.signatures["serving_default"].graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    for function in graph.library.function:
        kinds |= {node.op for node in function.node_def}
    assert "StringToHashBucketFast" in kinds
    assert not [kind for kind in kinds if "Table" in kind or "Py" in kind]


def test_learns_which_word_a_gloss_means():
    keras.utils.set_random_seed(1)
    x = {
        "query": tf.constant([f"meaning of thing{i} here" for i in range(16)]),
        "document": tf.constant([f"word{i}" for i in range(16)]),
    }
    model = make_model(Sizes(num_terms=4096, dim=16, max_words=4))
    model.compile(keras.optimizers.Adam(0.1), run_eagerly=True)
    batches = tf.data.Dataset.from_tensors((x, np.arange(16))).repeat(20)
    model.fit(batches, verbose=0)
    result = model.evaluate(x, batch_size=16, verbose=0, return_dict=True)
    assert result["in_batch_accuracy"] == 1.0
