"""The RouterReport component's code: what to run the teacher over."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_moe.components import ReportArgs
from keras_moe.ops import shift_right
from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import ENCODER_TOKEN_IDS
from pipelines.g2p.modules.transformed import stream_pairs

# Number of pairs that the teacher is run over: enough to measure the shares of
# a few experts well.
_PAIRS = 4096


def teacher_inputs(args: ReportArgs) -> dict[str, Any]:
    """Returns teacher-forced inputs, a fixed sample.

    Args:
        args: The files of transformed examples.
    """
    source, target = _sample(stream_pairs(args.example_files))
    return {
        ENCODER_TOKEN_IDS: source,
        "decoder_token_ids": np.asarray(shift_right(target, text.PAD_ID)),
    }


def _sample(pairs: tf.data.Dataset) -> list[np.ndarray]:
    """Returns the pairs of the lowest random numbers, a chunk at a time."""
    random = np.random.default_rng(0)
    numbers = np.empty(0)
    sample = [
        np.empty((0, width), np.int32)
        for width in (text.SOURCE_LENGTH, text.MAX_PHONEMES)
    ]
    for chunk in pairs.as_numpy_iterator():
        numbers = np.append(numbers, random.random(len(chunk[0])))
        kept = np.argsort(numbers)[:_PAIRS]
        numbers = numbers[kept]
        sample = [
            np.concatenate(ids)[kept] for ids in zip(sample, chunk, strict=True)
        ]
    return sample
