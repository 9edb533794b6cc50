import pytest
import tensorflow as tf

from keras_moe.components import TextColumn

pytestmark = pytest.mark.tfx

TEXTS = tf.constant([" né le 1 ", "", "一 二"])
VOCABULARY = ("", "", "", "né", "le")


def test_units():
    by_character = TextColumn("source", "character", 9).split(TEXTS)
    assert [len(row) for row in by_character.to_list()] == [7, 0, 3]
    by_word = TextColumn("source", "word", 9).split(TEXTS)
    assert by_word.to_list()[0] == ["né".encode(), b"le", b"1"]


@pytest.mark.parametrize(("unit", "space"), [("word", " "), ("character", "")])
def test_ids_to_texts(unit, space):
    texts = {
        "né le": [3, 4, 1, 4],
        "né né": [3, 0, 2, 3],  # padding and what is unknown say nothing
        "": [1, 3, 3, 3],
        "le": [4, 5, 99, -1],  # ids outside
    }
    decode = tf.function(TextColumn("target", unit, 4).decode)
    found = decode(tf.constant(list(texts.values())), VOCABULARY).numpy()
    assert [t.decode() for t in found] == [t.replace(" ", space) for t in texts]


def test_texts_that_are_too_long():
    TextColumn("source", "word", 2).check(["one two", ""])
    with pytest.raises(ValueError, match="at most 2 words.*Received: 3 in"):
        TextColumn("source", "word", 2).check(["one two", "a b c"])
    with pytest.raises(ValueError, match="at most 2 characters.*Received: 3"):
        TextColumn("source", "character", 2).check(["abc"])


def test_arguments():
    with pytest.raises(ValueError, match="`unit` must be one of"):
        TextColumn("source", "letter", 2)
    with pytest.raises(ValueError, match="`max_length`"):
        TextColumn("source", "word", 0)
