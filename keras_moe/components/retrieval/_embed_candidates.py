"""Embeds candidates in Beam: any number of workers write the same files."""

import re
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf

from keras_moe.components._record_shards import COMPRESSION
from keras_moe.components._record_shards import record_key
from keras_moe.components._record_shards import shard_of
from keras_moe.components.retrieval._embedding_rows import OK
from keras_moe.components.retrieval._embedding_rows import EmbeddingRow
from keras_moe.components.retrieval._embedding_rows import EmbeddingSummary
from keras_moe.components.retrieval._embedding_rows import write_rows

_EMBEDDING = "embedding"
_STATUS = "status"
_LONGEST_STATUS = 200
# Where in the graph it happened: TensorFlow's before and after what happened.
_PLACE = re.compile(r"\{\{function_node [^}]*\}\} | *\[Op:.*\]$")

Named = tuple[bytes, bytes]


class ReadCandidates(beam.DoFn):
    """Reads the records of a file, each with its shard and its identifier.

    The shard is a hash of the identifier: equal ones meet in one.

    Args:
        identifier_key: of an example's features.
        num_shards: how many there are.
    """

    def __init__(self, identifier_key: str, num_shards: int) -> None:
        self._key = identifier_key
        self._num_shards = num_shards

    def process(self, path: str) -> Iterator[tuple[int, Named]]:
        """Yields `(shard, (identifier, record))`."""
        for record in tf.data.TFRecordDataset(
            path, COMPRESSION
        ).as_numpy_iterator():
            identifier = record_key(record, self._key)
            shard = shard_of(identifier or record, self._num_shards)
            yield shard, (identifier, record)


class EmbedShard(beam.DoFn):
    """Embeds all candidates of a shard, in the order of their identifiers.

    Batches are the same whoever embeds them, and so is every bit.

    Args:
        model_path: of a SavedModel.
        signature_name: see `CandidateEmbedder`.
        uri: where the shard is written.
        num_shards: how many there are.
        batch_size: of a call.
    """

    def __init__(
        self,
        model_path: str,
        signature_name: str,
        uri: str,
        num_shards: int,
        batch_size: int,
    ) -> None:
        self._model_path = model_path
        self._signature_name = signature_name
        self._uri = uri
        self._num_shards = num_shards
        self._batch_size = batch_size
        self._model: Any = None

    def setup(self) -> None:
        """Loads the model, once a worker."""
        self._model = tf.saved_model.load(self._model_path)

    def process(
        self, element: tuple[int, Iterable[Named]]
    ) -> Iterator[EmbeddingSummary]:
        """Writes the shard; yields what is in it."""
        shard, given = element
        named = sorted(given)
        rows = list(self._embed(named))
        write_rows(self._uri, shard, self._num_shards, rows)
        yield _summarize(rows)

    def _embed(self, named: list[Named]) -> Iterator[EmbeddingRow]:
        signature = self._model.signatures[self._signature_name]
        for start in range(0, len(named), self._batch_size):
            batch = named[start : start + self._batch_size]
            known = [each for each in batch if each[0]]
            for _ in range(len(batch) - len(known)):
                yield _failed(b"", "no identifier")
            if known:
                yield from _call(signature, known)


def _call(signature: Any, batch: list[Named]) -> Iterator[EmbeddingRow]:
    """Embeds a batch; row by row where it fails, so that one row fails."""
    try:
        (name,) = signature.structured_input_signature[1]
        records = tf.constant([record for _, record in batch])
        outputs = signature(**{name: records})
    except tf.errors.OpError as error:
        if len(batch) == 1:
            yield _failed(batch[0][0], _reason(error))
            return
        for one in batch:
            yield from _call(signature, [one])
        return
    embeddings = np.asarray(outputs[_EMBEDDING], "float32")
    statuses = outputs.get(_STATUS)
    for index, (identifier, _) in enumerate(batch):
        status = OK if statuses is None else statuses[index].numpy().decode()
        if status == OK and not np.isfinite(embeddings[index]).all():
            status = "the embedding is not finite"
        if status == OK:
            yield EmbeddingRow(identifier, status, embeddings[index])
        else:
            yield _failed(identifier, status)


def _failed(identifier: bytes, status: str) -> EmbeddingRow:
    return EmbeddingRow(identifier, status, np.zeros([0], "float32"))


def _reason(error: tf.errors.OpError) -> str:
    lines = [line.strip() for line in (error.message or "").splitlines()]
    said = [line for line in lines if line and not line.startswith("[[")]
    text = _PLACE.sub("", said[-1]) if said else "it failed"
    return f"{type(error).__name__}: {text}"[:_LONGEST_STATUS]


def _summarize(rows: list[EmbeddingRow]) -> EmbeddingSummary:
    good = [row for row in rows if row.status == OK]
    names = [row.identifier for row in rows if row.identifier]
    # They are sorted.
    repeated = {a for a, b in zip(names, names[1:], strict=False) if a == b}
    summary = EmbeddingSummary(
        len(good),
        len(rows) - len(good),
        tuple({len(row.embedding) for row in good}),
        tuple({row.status for row in rows} - {OK}),
        tuple(name.decode(errors="replace") for name in repeated),
    )
    return summary + EmbeddingSummary()
