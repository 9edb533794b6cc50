"""What each stage answers, with and without exits; decoded once, then kept."""

import dataclasses
import os
import pathlib
from typing import NamedTuple

import numpy as np

from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import answered_phonemes
from benchmarks.shared.dictionary import listed_phonemes
from benchmarks.shared.dictionary import word_ids
from benchmarks.shared.kept_checkpoints import digest
from keras_moe.generation import EarlyExitPolicy
from keras_moe.metrics import nearest_reference
from keras_moe.models import SwitchTransformer
from keras_moe.weights import fingerprint
from pipelines.g2p.modules import text

_AT_ONCE = 1024


class Answers(NamedTuple):
    """One stage's answers to the words of a split.

    Attributes:
        token_ids: int32 `[n, max_length]`.
        token_log_probability: float32 of the same shape.
        edits: from the nearest listed pronunciation, `[n]`.
        lengths: phonemes of that pronunciation, `[n]`.
        mean_exit_layer: over all tokens; 0 where there is no policy.
    """

    token_ids: np.ndarray
    token_log_probability: np.ndarray
    edits: np.ndarray
    lengths: np.ndarray
    mean_exit_layer: np.ndarray

    @property
    def error_rate(self) -> float:
        """Edits over phonemes."""
        return float(self.edits.sum() / self.lengths.sum())

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        """What a deferral rule looks at."""
        return {
            "token_ids": self.token_ids,
            "token_log_probability": self.token_log_probability,
        }

    @property
    def losses(self) -> np.ndarray:
        """What each word's answer errs, from 0 to 1, `[n]`."""
        return np.clip(self.edits / self.lengths, 0.0, 1.0)


def kept_answers(
    folder: pathlib.Path,
    model: SwitchTransformer,
    split: str,
    entries: Entries,
    policy: EarlyExitPolicy | None = None,
) -> Answers:
    """Returns a stage's answers to a split, decoded if they are not kept.

    Args:
        folder: where they are kept.
        model: trained.
        split: name of the split, for the file.
        entries: its words.
        policy: when tokens leave early; `None` for never.
    """
    key = {
        "model": fingerprint(model),
        "policy": policy and dataclasses.asdict(policy),
        "words": [word for word, _ in entries],
    }
    path = folder / f"{split}-{digest(key)}.npz"
    if path.exists():
        with np.load(path) as kept:
            return Answers(**kept)
    answers = _decode(model, entries, policy)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **answers._asdict())
    os.replace(partial, path)
    return answers


def _decode(
    model: SwitchTransformer, entries: Entries, policy: EarlyExitPolicy | None
) -> Answers:
    ids = word_ids(entries)
    # Batches of words of like length decode fastest.
    order = np.argsort((ids != text.PAD_ID).sum(axis=1), kind="stable")
    tokens = np.zeros([len(ids), text.MAX_PHONEMES], "int32")
    log_p = np.zeros(tokens.shape, "float32")
    layers = np.zeros(tokens.shape, "int32")
    for start in range(0, len(ids), _AT_ONCE):
        rows = order[start : start + _AT_ONCE]
        length = int((ids[rows] != text.PAD_ID).sum(axis=1).max())
        answer = model.generate(
            ids[rows][:, :length], text.MAX_PHONEMES, early_exit=policy
        )
        tokens[rows] = answer["token_ids"]
        log_p[rows] = answer["token_log_probability"]
        if policy is not None:
            layers[rows] = answer["exit_layer"]
    edits, lengths = nearest_reference(
        answered_phonemes(tokens), listed_phonemes(entries)
    )
    left = layers[layers > 0]
    depth = np.array(left.mean() if len(left) else 0.0)
    return Answers(tokens, log_p, np.array(edits), np.array(lengths), depth)
