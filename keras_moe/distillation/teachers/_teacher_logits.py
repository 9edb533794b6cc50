"""A teacher's logits for a data set, on disk."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.distillation._checks import check_finite
from keras_moe.distillation.teachers._cached_teacher import teacher_inputs
from keras_moe.distillation.teachers._manifest import MANIFEST
from keras_moe.distillation.teachers._manifest import TeacherLogits
from keras_moe.distillation.teachers._manifest import read_manifest
from keras_moe.distillation.teachers._records import KEPT
from keras_moe.distillation.teachers._records import LABELS
from keras_moe.distillation.teachers._records import WEIGHTS
from keras_moe.distillation.teachers._records import Fields
from keras_moe.distillation.teachers._records import describe_fields
from keras_moe.distillation.teachers._records import parse_record
from keras_moe.distillation.teachers._records import serialize_record
from keras_moe.losses._token_kl_divergence import real_logits
from keras_moe.ops import compress_logits
from keras_moe.ops._token_ids import IGNORE_ID
from keras_moe.ops._token_ids import is_left_out
from keras_moe.training._watched_batches import check_weights
from keras_moe.validation import check_size
from keras_moe.weights import fingerprint


def write_teacher_logits(
    teacher: keras.Model,
    dataset: Any,
    directory: str | pathlib.Path,
    k: int = 8,
    num_shards: int = 1,
    pad_id: int | None = None,
    verbose: int = 1,
) -> TeacherLogits:
    """Runs a teacher once over a data set and keeps its likeliest tokens.

    The directory appears complete or not at all.

    Args:
        teacher: the teacher, of logits `(batch, length, vocabulary)`.
        dataset: batches of inputs (a dictionary of `(batch, ...)`), labels
            int `(batch, length)` and, maybe, weights `(batch,)`, in one pass;
            padded.
        directory: where to write; it must not exist.
        k: tokens kept of each distribution. A position takes `4 * k` bytes
            on disk, `6 * k` for vocabularies of more than 65,536.
        num_shards: number of files; each is read on its own.
        pad_id: the label that marks padding, which is not kept; `None` for
            `teacher.config`'s.
        verbose: 1 shows a progress bar, 0 does not.

    Returns:
        What was written.

    Raises:
        ValueError: if the directory exists, an argument is out of its range,
            there are no examples, or a logit is not a number. Nothing is left
            behind.

    Example:

    >>> teacher = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    >>> batches = tf.data.Dataset.from_tensors((inputs, ids))
    >>> written = keras_moe.distillation.write_teacher_logits(
    ...     teacher, batches, directory, k=3, verbose=0
    ... )
    >>> written.num_examples, written.num_tokens, written.vocabulary_size
    (1, 4, 32)
    >>> examples = keras_moe.distillation.read_teacher_logits(directory)
    >>> inputs, labels = next(iter(examples.batch(1)))
    >>> inputs["teacher_token_ids"].shape
    TensorShape([1, 4, 3])
    """
    check_size(k=k, num_shards=num_shards)
    directory = pathlib.Path(directory)
    if directory.exists():
        raise ValueError(
            f"`directory` must not exist yet. Received: {directory}."
        )
    if pad_id is None:
        pad_id = getattr(getattr(teacher, "config", None), "pad_id", None)
    made = [path for path in directory.parents if not path.exists()]
    directory.parent.mkdir(parents=True, exist_ok=True)
    # A unique name, since another process may be writing there as well.
    partial = directory.with_name(f"{directory.name}.{uuid.uuid4().hex}")
    partial.mkdir()
    try:
        written = _write(
            teacher, dataset, partial, k, num_shards, pad_id, verbose
        )
        partial.rename(directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        # Others may write there too; their files must not hide what failed.
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()
        raise
    return written


def read_teacher_logits(directory: str | pathlib.Path) -> tf.data.Dataset:
    """Returns the examples that `write_teacher_logits` wrote.

    Shards are read in turns. Shuffle, then batch by `padded_batch`; train with
    `CachedTeacher` in the place of the teacher.

    Args:
        directory: the directory that was written.

    Returns:
        Pairs of inputs, with `"teacher_token_ids"` int32 `(length, k)` and
        `"teacher_log_probabilities"` float32 `(length, k)` among them, and
        labels; with a third part, the weight, if there were weights.

    Raises:
        ValueError: if the directory does not hold what was written.

    Example:

    >>> teacher = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> ids = np.array([[5, 6, 7, 1], [8, 1, 0, 0]])
    >>> inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    >>> written = keras_moe.distillation.write_teacher_logits(
    ...     teacher, [(inputs, ids)], directory, k=3, verbose=0
    ... )
    >>> examples = keras_moe.distillation.read_teacher_logits(directory)
    >>> for inputs, labels in examples.padded_batch(2):
    ...     inputs["teacher_log_probabilities"].shape
    TensorShape([2, 4, 3])
    """
    directory = pathlib.Path(directory)
    written = describe_teacher_logits(directory)
    paths = [str(directory / name) for name in written.shards]
    sizes = [
        tf.io.gfile.stat(path).length
        for path in paths
        if tf.io.gfile.exists(path)
    ]
    if len(sizes) != len(paths) or sum(sizes) != written.num_bytes:
        raise ValueError(
            f"The shards in `directory` must be {len(paths)} files of "
            f"{written.num_bytes} bytes. Received: {len(sizes)} files of "
            f"{sum(sizes)} bytes in {directory}."
        )
    records = tf.data.Dataset.from_tensor_slices(paths).interleave(
        tf.data.TFRecordDataset, cycle_length=len(paths), block_length=16
    )
    return records.map(
        lambda record: parse_record(record, written.fields),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).apply(tf.data.experimental.assert_cardinality(written.num_examples))


def describe_teacher_logits(directory: str | pathlib.Path) -> TeacherLogits:
    """Returns the contents of a directory that `write_teacher_logits` wrote.

    Args:
        directory: the directory.

    Raises:
        ValueError: if the directory holds no teacher's logits.

    Example:

    >>> teacher = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    >>> written = keras_moe.distillation.write_teacher_logits(
    ...     teacher, [(inputs, ids)], directory, k=3, verbose=0
    ... )
    >>> keras_moe.distillation.describe_teacher_logits(directory) == written
    True
    """
    path = pathlib.Path(directory) / MANIFEST
    if not path.exists():
        raise ValueError(
            f"`directory` must hold a {MANIFEST}, as `write_teacher_logits` "
            f"writes it. Received: {directory}."
        )
    return read_manifest(path)


def _write(
    teacher: keras.Model,
    dataset: Any,
    directory: pathlib.Path,
    k: int,
    num_shards: int,
    pad_id: int | None,
    verbose: int,
) -> TeacherLogits:
    shards = tuple(
        f"teacher_logits-{shard:05d}-of-{num_shards:05d}.tfrecord"
        for shard in range(num_shards)
    )
    examples = tokens = vocabulary = 0
    fields: Fields = {}
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(tf.io.TFRecordWriter(str(directory / name)))
            for name in shards
        ]
        for batch, vocabulary in _run(teacher, dataset, k, pad_id, verbose):
            found = describe_fields(batch, vocabulary)
            if found != (fields := fields or found):
                raise ValueError(
                    "Each batch must hold the same fields, of the same shapes "
                    f"but for their length. Received: {found} after {fields}."
                )
            for row in range(len(batch[LABELS])):
                example = {name: batch[name][row] for name in batch}
                used = _used(example[LABELS], pad_id)
                for name in KEPT:
                    example[name] = example[name][:used]
                writers[examples % num_shards].write(
                    serialize_record(example, fields)
                )
                examples += 1
                tokens += used
    if not examples:
        raise ValueError("`dataset` must hold examples. Received none.")
    written = TeacherLogits(
        k=k,
        vocabulary_size=vocabulary,
        num_examples=examples,
        num_tokens=tokens,
        num_bytes=sum((directory / name).stat().st_size for name in shards),
        teacher=fingerprint(teacher) if teacher.weights else None,
        shards=shards,
        fields=fields,
    )
    (directory / MANIFEST).write_text(
        json.dumps(dataclasses.asdict(written), indent=1) + "\n"
    )
    return written


def _run(
    teacher: keras.Model,
    dataset: Any,
    k: int,
    pad_id: int | None,
    verbose: int,
) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """Yields each batch with its kept logits, and the vocabulary's size."""
    run = tf.function(
        lambda inputs: teacher(inputs, training=False),
        autograph=False,
        reduce_retracing=True,
    )
    try:
        length = len(dataset)
    except TypeError:
        length = None
    bar = keras.utils.Progbar(length, unit_name="batch", verbose=verbose)
    for number, whole in enumerate(dataset):
        inputs, others = _parts(whole)
        labels = others[LABELS]
        logits = run(teacher_inputs(teacher, inputs))
        if tuple(logits.shape[:-1]) != tuple(labels.shape):
            raise ValueError(
                "The teacher's logits must have the shape of the labels, and "
                "an axis for the vocabulary. Received: logits of the shape "
                f"{tuple(logits.shape)}, labels of {tuple(labels.shape)}."
            )
        mask = None if pad_id is None else ~is_left_out(labels, pad_id)
        check_finite(real_logits(logits, mask), f"Batch {number}")
        kept = compress_logits(logits, k)
        batch = {name: np.asarray(inputs[name]) for name in inputs}
        batch |= others | {
            name: np.asarray(value)
            for name, value in zip(KEPT, kept, strict=True)
        }
        yield batch, logits.shape[-1]
        bar.update(number + 1)


def _parts(batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the inputs of a batch; labels, and weights if it has any."""
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        raise ValueError(
            "`dataset` must give inputs and labels, and maybe a weight for "
            f"each example. Received: {type(batch).__name__} of {len(batch)}."
        )
    inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(tuple(batch))
    if not isinstance(inputs, dict) or {LABELS, WEIGHTS} & set(inputs):
        raise ValueError(
            f"Inputs must be a dictionary without {LABELS!r} and {WEIGHTS!r}, "
            "under which labels and weights are kept. Received: "
            f"{sorted(inputs) if isinstance(inputs, dict) else type(inputs)}."
        )
    if len(labels.shape) != 2:
        raise ValueError(
            "Labels must have the shape (batch, length). Received: "
            f"{tuple(labels.shape)}."
        )
    if weights is None:
        return inputs, {LABELS: np.asarray(labels)}
    if tuple(weights.shape) != tuple(labels.shape[:1]):
        raise ValueError(
            "Weights must have the shape (batch,), one for each example. "
            f"Received: {tuple(weights.shape)}."
        )
    check_weights(weights)
    kept = np.asarray(weights, "float32")
    return inputs, {LABELS: np.asarray(labels), WEIGHTS: kept}


def _used(labels: np.ndarray, pad_id: int | None) -> int:
    """Returns the number of positions before the padding at the end."""
    if pad_id is None:
        return len(labels)
    (real,) = np.nonzero((labels != pad_id) & (labels != IGNORE_ID))
    return int(real[-1]) + 1 if len(real) else 0
