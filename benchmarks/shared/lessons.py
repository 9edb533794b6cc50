"""What the students learn from: labels, and the teacher's logits on disk."""

import functools
import pathlib

import numpy as np
import tensorflow as tf
from rich.console import Console

from benchmarks.shared.dictionary import Entries
from benchmarks.shared.dictionary import make_pairs
from keras_moe.distillation import describe_teacher_logits
from keras_moe.distillation import read_teacher_logits
from keras_moe.distillation import teacher_sequences
from keras_moe.distillation import write_teacher_logits
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import text
from pipelines.g2p.modules.batches import array_pairs
from pipelines.g2p.modules.batches import evaluation_batches

# Logits kept of each token; the vocabulary has 42 phonemes and special tokens.
TOP_K = 8
_SHARDS = 2
_WRITTEN_AT_ONCE = 1024
_BUCKETS = [6, 7, 8, 9, 10, 11, 13, 17]
_SHUFFLED = 1 << 17  # all of them


def write_lessons(
    teacher: SwitchTransformer,
    entries: Entries,
    state: pathlib.Path,
    names: tuple[str, ...] = ("labels", "answers"),
) -> None:
    """Keeps the teacher's logits for the labels, and for its own answers.

    Args:
        teacher: trained.
        entries: the training split.
        state: folder, in which those of `names` are made that are missing.
        names: `"labels"`, `"answers"` or both.
    """
    console = Console()
    pairs = None
    for name in names:
        if not (state / name).exists():
            pairs = pairs or make_pairs(entries)
            source, target = pairs
            if name == "answers":
                source, target = _answered(teacher, entries)
            write_teacher_logits(
                teacher,
                evaluation_batches(
                    functools.partial(array_pairs, source, target),
                    teacher.config,
                    _WRITTEN_AT_ONCE,
                ),
                state / name,
                k=TOP_K,
                num_shards=_SHARDS,
                verbose=0,
            )
        written = describe_teacher_logits(state / name)
        console.print(
            f"{name}: {written.num_examples:,} examples, "
            f"{written.num_tokens:,} tokens, "
            f"{written.num_bytes / 1e6:.1f} MB of teacher's logits"
        )


def _answered(
    teacher: SwitchTransformer, entries: Entries
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each word once, with the teacher's answer."""
    words = tf.constant([word for word, _ in entries])
    source = text.encode_words(words)["encoder_token_ids"].numpy()
    # Batches of words of like length decode fastest: the longest word of a
    # batch decides how many steps it runs.
    order = np.argsort((source != text.PAD_ID).sum(axis=1), kind="stable")
    source = source[order]
    answers = teacher_sequences(
        teacher, source, text.MAX_PHONEMES, batch_size=1024, verbose=0
    )
    return source[answers.ended], answers.token_ids[answers.ended]


def read_lessons(
    state: pathlib.Path, names: tuple[str, ...], batch_size: int, seed: int
) -> tf.data.Dataset:
    """Returns an endless stream of batches of like length.

    Args:
        state: folder of `write_lessons`.
        names: `"labels"`, `"answers"` or both, which are then mixed evenly.
        batch_size: examples of a batch.
        seed: seed of the order.
    """
    streams = [
        read_teacher_logits(state / name)
        .cache()
        .shuffle(_SHUFFLED, seed=seed)
        .repeat()
        for name in names
    ]
    mixed = streams[0]
    if len(streams) > 1:
        mixed = tf.data.Dataset.choose_from_datasets(
            streams, tf.data.Dataset.range(len(streams)).repeat()
        )

    def length(inputs, labels):
        source = tf.shape(inputs["encoder_token_ids"])[0]
        return tf.maximum(source, tf.shape(labels)[0])

    return mixed.bucket_by_sequence_length(
        length,
        _BUCKETS,
        [batch_size] * (len(_BUCKETS) + 1),
        drop_remainder=True,
    ).prefetch(4)
