import time

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from pipelines.g2p.modules import text

encode = tf.function(
    text.encode_words, input_signature=[tf.TensorSpec([None], tf.string)]
)


def encode_one(word):
    """Returns (characters understood, status) of a word."""
    encoded = encode(tf.constant([word]))
    return spelled(encoded["encoder_token_ids"].numpy()[0]), (
        encoded["status"].numpy()[0].decode()
    )


def spelled(ids):
    if not ids.any():
        return None  # refused
    (end,) = (ids == text.END_ID).nonzero()[0]
    assert not ids[end + 1 :].any()
    return "".join(text.ALPHABET[i - text.FIRST_ID] for i in ids[:end])


@pytest.mark.parametrize(
    ("word", "expected", "status"),
    [
        ("hello", "hello", "ok"),
        ("  Hello\n", "hello", "ok"),
        ("O'Neil-Jr.", "o'neil-jr.", "ok"),
        ("", None, "empty"),
        (" \t", None, "empty"),
        ("x" * 32, "x" * 32, "ok"),
        ("x" * 33, None, "too_long"),
        ("x" * 10_000, None, "too_long"),
        ("é" * 10_000, None, "too_long"),
        ("😀" * 33, None, "too_long"),
        ("café", "caf", "unknown_characters"),
        ("route 66", "route", "unknown_characters"),
        ("日本", None, "unknown_characters"),
        (b"ab\xff\xfec", "abc", "unknown_characters"),
        (b"\xff" * 10_000, None, "too_long"),
        (b"\xe2\x82", None, "unknown_characters"),
        (b"a\x00b", "ab", "unknown_characters"),
    ],
)
def test_encode_words(word, expected, status):
    assert encode_one(word) == (expected, status)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.one_of(st.text(max_size=40), st.binary(max_size=150))))
def test_a_word_never_touches_its_batch_mates(words):
    batch = [
        w.encode("utf-8", "replace") if isinstance(w, str) else w for w in words
    ]
    together = encode(tf.constant(batch, tf.string, shape=[len(batch)]))
    assert together["encoder_token_ids"].shape == (
        len(batch),
        text.SOURCE_LENGTH,
    )
    for row, word in enumerate(batch):
        ids = together["encoder_token_ids"].numpy()[row]
        status = together["status"].numpy()[row].decode()
        assert (spelled(ids), status) == encode_one(word)


def test_long_strings_are_cheap():
    words = tf.constant(["x" * 10_000] * 1000)
    encode(words)
    began = time.perf_counter()
    encode(words)
    assert time.perf_counter() - began < 2


def test_the_graph_holds_constants_alone():
    operations = {
        op.type for op in encode.get_concrete_function().graph.get_operations()
    }
    assert not {op for op in operations if "Table" in op or "Var" in op}


@pytest.mark.parametrize("keep_stress", [False, True])
def test_pronunciations_round_trip(keep_stress):
    listed = (
        ["HH AH0 L OW1", "HH EH0 L OW1"]
        if keep_stress
        else ["HH AH L OW", "HH EH L OW"]
    )
    encoded = text.encode_pronunciations(
        tf.constant(["|".join(listed), "Z"]), keep_stress
    )
    assert encoded.row_lengths().numpy().tolist() == [2, 1]
    ids = encoded.merge_dims(0, 1).to_tensor()
    assert int(tf.reduce_max(ids)) < text.target_vocabulary_size(keep_stress)
    decoded = text.decode_phonemes(ids, keep_stress).numpy()
    assert [d.decode() for d in decoded] == [*listed, "Z"]


def test_unknown_phoneme_has_the_unknown_id():
    encoded = text.encode_pronunciations(tf.constant(["K Q"]))
    assert encoded.to_list()[0][0][1:] == [text.UNKNOWN_ID, text.END_ID]


def test_decode_stops_at_the_end():
    ids = tf.constant([[5, 1, 6, 7], [1, 5, 5, 5], [0, 2, 5, 999], [0] * 4])
    decoded = text.decode_phonemes(ids).numpy()
    phoneme = text.inventory()[5 - text.FIRST_ID].encode()
    assert decoded.tolist() == [phoneme, b"", phoneme, b""]


def test_decode_without_any_step():
    decoded = text.decode_phonemes(tf.zeros([2, 0], tf.int32))
    assert decoded.numpy().tolist() == [b"", b""]
