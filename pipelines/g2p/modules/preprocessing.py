"""The Transform component's code: tokenisation inside the graph."""

from typing import Any

import tensorflow as tf

from pipelines.g2p.modules import text

WORD = "word"
PRONUNCIATIONS = "pronunciations"

ENCODER_TOKEN_IDS = "encoder_token_ids"
TARGET_TOKEN_IDS = "target_token_ids"
WORD_STATUS = "word_status"

# Name of the exported model's answer.
PHONEMES = "phonemes"


def preprocessing_fn(
    inputs: dict[str, tf.Tensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor | tf.SparseTensor]:
    """Turns words and pronunciations into ids.

    Args:
        inputs: The raw features `word` and `pronunciations`.
        custom_config: `{"keep_stress": bool}` (and a fingerprint of the code,
            which only the cache looks at).

    Returns:
        `encoder_token_ids` int64 `(batch, text.SOURCE_LENGTH)`, `word_status`
        string `(batch,)`, and `target_token_ids`, sparse: all pronunciations
        one after the other, each ended by `text.END_ID`.
    """
    words = text.encode_words(tf.reshape(inputs[WORD], [-1]))
    variants = text.encode_pronunciations(
        tf.reshape(inputs[PRONUNCIATIONS], [-1]),
        keep_stress=bool(custom_config["keep_stress"]),
    )
    return {
        ENCODER_TOKEN_IDS: words["encoder_token_ids"],
        WORD_STATUS: words["status"],
        TARGET_TOKEN_IDS: variants.merge_dims(1, 2).to_sparse(),
    }
