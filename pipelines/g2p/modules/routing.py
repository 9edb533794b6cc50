"""The RouterReport component's code: what to run the teacher over."""

from typing import Any

import numpy as np

from keras_moe.components import ReportArgs
from keras_moe.ops import shift_right
from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import ENCODER_TOKEN_IDS
from pipelines.g2p.modules.transformed import read_pairs

# Number of pairs that the teacher is run over: enough to measure the shares of
# a few experts well.
_PAIRS = 4096


def teacher_inputs(args: ReportArgs) -> dict[str, Any]:
    """Returns teacher-forced inputs, a fixed sample.

    Args:
        args: The files of transformed examples.
    """
    source, target = read_pairs(list(args.example_files))
    rows = np.random.default_rng(0).permutation(len(source))[:_PAIRS]
    return {
        ENCODER_TOKEN_IDS: source[rows],
        "decoder_token_ids": np.asarray(shift_right(target[rows], text.PAD_ID)),
    }
