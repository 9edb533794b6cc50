import numpy as np
import pytest
import tensorflow as tf

from keras_moe.visualization._exit_rows import exit_rows

TOKENS = [["F", "OW"], ["K"]]
LAYERS = [[1, 3], [2]]


def test_leaves_out_what_was_not_emitted():
    rows = exit_rows(
        [["F", "OW", ""], ["K", "AE", "T"], ["a", "b"]],
        [[1, 4, 0], [0, 2, 3], [0, 0]],
        4,
        labels=["fo", "at", ""],
    )
    assert [row.tokens for row in rows] == [("F", "OW"), ("AE", "T"), ()]
    assert [row.layers for row in rows] == [(1, 4), (2, 3), ()]
    assert [row.label for row in rows] == ["fo", "at", ""]
    assert [row.mean for row in rows] == ["2.5", "2.5", "–"]


@pytest.mark.parametrize(
    "form", [tuple, np.array, tf.constant, lambda x: list(np.int32(x))]
)
def test_exit_layers_may_be_tensors(form):
    tokens = np.array([["F", "OW"], ["K", ""]])
    assert exit_rows(tokens, form([[1, 3], [2, 0]]), 3) == exit_rows(
        TOKENS, LAYERS, 3
    )


def test_no_token_breaks_a_line_or_is_unseen():
    texts = ["a\nb", " ", "\t", "a b", "\ud800", "\u2028", "é", "\0"]
    (row,) = exit_rows([texts], [[1] * len(texts)], 1)
    assert row.tokens == (
        "a\\nb",
        "␣",
        "\\t",
        "a b",
        "\\ud800",
        "\\u2028",
        "é",
        "\\x00",
    )


@pytest.mark.parametrize(
    ("tokens", "layers", "num_layers", "message"),
    [
        (TOKENS, LAYERS, 2, r"`exit_layers\[0\]` must be in .*=2.*Received: 3"),
        (TOKENS, [[1, -1], [2]], 3, r"`exit_layers\[0\]`.*Received: -1"),
        (TOKENS, [[1], [2]], 3, "2 tokens and 1 exit layers in row 0"),
        (TOKENS, [[1, 3]], 3, "2 rows of tokens, 1 of exit layers"),
        ([], [], 3, "a token that was emitted. Received: 0 rows"),
        ([[]], [[]], 3, "a token that was emitted. Received: 1 rows"),
        (TOKENS, [[0, 0], [0]], 3, "a token that was emitted"),
        (TOKENS, LAYERS, 0, "`num_layers` must be a positive integer"),
        (TOKENS, LAYERS, 3.0, "`num_layers` must be a positive integer"),
        (TOKENS, LAYERS, None, "`num_layers` must be a positive integer"),
    ],
)
def test_values_that_do_not_fit(tokens, layers, num_layers, message):
    with pytest.raises(ValueError, match=message):
        exit_rows(tokens, layers, num_layers)


def test_labels_that_do_not_fit():
    with pytest.raises(ValueError, match="2 of exit layers and 1 labels"):
        exit_rows(TOKENS, LAYERS, 3, labels=["fo"])
    with pytest.raises(TypeError, match="`labels` must be a sequence of str"):
        exit_rows(TOKENS, LAYERS, 3, labels="fo")


@pytest.mark.parametrize(
    ("tokens", "layers", "message"),
    [
        ("FO", LAYERS, "`tokens` must be a sequence of rows"),
        (["FO", "K"], LAYERS, r"`tokens\[0\]` must be a sequence of strings"),
        ([[b"F", b"OW"], [b"K"]], LAYERS, r"`tokens\[0\]`.*b'F'"),
        ([["F", "OW"], [7]], LAYERS, r"`tokens\[1\]`.*\[7\]"),
        ([["F", "OW"], 7], LAYERS, r"`tokens\[1\]`.*Received: 7"),
        (
            TOKENS,
            [[1, 3], [2.0]],
            r"`exit_layers\[1\]` must hold integers.*2.0",
        ),
        (TOKENS, [[True, 3], [2]], r"`exit_layers\[0\]` must hold integers"),
        (TOKENS, [1, 3], r"`exit_layers\[0\]` must be a sequence of integers"),
        (TOKENS, 3, "`exit_layers` must be a sequence of rows"),
    ],
)
def test_types_that_do_not_fit(tokens, layers, message):
    with pytest.raises(TypeError, match=message):
        exit_rows(tokens, layers, 3)
