"""Checks that self-speculative decoding gives greedy decoding's answers."""

import numpy as np
import tensorflow as tf

from benchmarks.early_exit.time_decoders import report_self_speculation
from benchmarks.shared.dictionary import Entries
from benchmarks.shared.report import Report
from keras_moe.generation import SelfSpeculative
from keras_moe.models import SwitchTransformer
from keras_moe.ops import shift_right
from keras_moe.ops import softmax_margin
from pipelines.g2p.modules import text

_AT_ONCE = 512
# Answers may differ where two tokens' log-probabilities are nearer than this:
# rounding decides there.
_MARGIN = 1e-5
_STRATEGY = SelfSpeculative(draft_layer=2, draft_length=4)


def check_self_speculation(
    report: Report, model: SwitchTransformer, test: Entries
) -> None:
    """Adds the mismatches on the whole test split, and the speed."""
    words = [word for word, _ in test]
    mismatches = near_ties = tokens = passes = 0
    for start in range(0, len(words), _AT_ONCE):
        ids = text.encode_words(tf.constant(words[start : start + _AT_ONCE]))
        ids = ids["encoder_token_ids"]
        greedy = model.generate(ids, text.MAX_PHONEMES)["token_ids"]
        drafted = model.generate(ids, text.MAX_PHONEMES, strategy=_STRATEGY)
        clear = _margins(model, ids, greedy) > _MARGIN
        differs = np.any(drafted["token_ids"] != greedy, axis=1)
        mismatches += int(np.sum(differs & clear))
        near_ties += int(np.sum(~clear))
        tokens += int(np.sum(np.any(greedy != model.config.pad_id, axis=0)))
        passes += int(drafted["num_verifications"][0])
    report.add_figures(
        {
            "self_speculative_words": len(words),
            "self_speculative_near_ties": near_ties,
            "self_speculative_steps_per_pass_batch512": tokens / passes,
        }
    )
    report.add_claim("self_speculative_mismatches", mismatches, 0, "==")
    report_self_speculation(report, model, words)


def _margins(model: SwitchTransformer, ids, answer) -> np.ndarray:
    """Returns the smallest lead of the likeliest token, of each row."""
    inputs = {
        "encoder_token_ids": ids,
        "decoder_token_ids": shift_right(answer, model.config.start_id),
    }
    logits = np.array(model(inputs, training=False))
    logits[..., model.config.pad_id] = -1e9
    margins = np.array(softmax_margin(logits))
    return np.where(answer != model.config.pad_id, margins, 1.0).min(axis=1)
