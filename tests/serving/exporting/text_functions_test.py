"""Functions from text to tokens and back that no graph can hold."""

import pytest
import tensorflow as tf

from keras_moe import serving
from keras_moe.models import SwitchTransformer


@pytest.fixture(scope="module")
def model():
    return SwitchTransformer.from_preset("switch_tiny", num_experts=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokenize": lambda words: words}, "`tokenize` must return a dict"),
        ({"tokenize": lambda words: {"ids": words}}, "encoder_token_ids"),
        (
            {
                "tokenize": lambda words: {
                    "encoder_token_ids": tf.strings.length(words)[:, None],
                    "outputs": words,
                }
            },
            "Received: 'outputs' twice",
        ),
        ({"tokenize": None}, "`tokenize` must be a function"),
        ({"detokenize": None}, "`detokenize` must be a function"),
        # One answer for all rows.
        (
            {
                "detokenize": lambda ids: tf.strings.reduce_join(
                    tf.strings.as_string(ids)
                )
            },
            r"`detokenize` must return strings \(batch,\), .* string \(\)",
        ),
        (
            {
                "detokenize": lambda ids: tf.strings.reduce_join(
                    tf.strings.as_string(ids), keepdims=True
                )[0]
            },
            r"`detokenize` must return strings .* string \(1,\)",
        ),
        ({"detokenize": lambda ids: "?"}, r"`detokenize`.* string \(\)"),
        ({"detokenize": lambda ids: ids}, r"`detokenize`.* int32 \(None, "),
        # Python's own functions.
        (
            {"detokenize": lambda ids: [str(row) for row in ids]},
            "`detokenize` must be made of TensorFlow's operations.*: "
            "OperatorNotAllowedInGraphError",
        ),
        (
            {"tokenize": lambda words: {"encoder_token_ids": words.split()}},
            "`tokenize` must be made of TensorFlow's operations.*'split'",
        ),
        (
            {"tokenize": lambda words: words.numpy()},
            "`tokenize` must be made of TensorFlow's operations.*'numpy'",
        ),
        (
            {"tokenize": lambda words: {"encoder_token_ids": [[1, 2]]}},
            r"`tokenize` must return .* a row for each.* int32 \(1, 2\)",
        ),
        (
            {
                "tokenize": lambda words: {
                    "encoder_token_ids": tf.fill([tf.size(words), 2], 1.5)
                }
            },
            "`encoder_token_ids` as integers .* float32",
        ),
    ],
)
def test_functions_that_do_not_fit(model, tmp_path, arguments, message):
    functions = {
        "tokenize": lambda words: {
            "encoder_token_ids": tf.strings.length(words)[:, tf.newaxis]
        },
        "detokenize": lambda ids: tf.strings.as_string(ids[:, 0]),
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        serving.export(model, tmp_path / "model", **functions)
    assert not (tmp_path / "model").exists()
