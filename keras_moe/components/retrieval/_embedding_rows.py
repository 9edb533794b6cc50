"""Embeddings of candidates on disk: a row for each, in shards."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_moe.components._artifact_files import read_locally
from keras_moe.components._record_shards import COMPRESSION
from keras_moe.components._record_shards import write_shard

OK = "ok"

_SUMMARY = "summary.json"
_READ_AT_ONCE = 4096
_SPEC = {
    "identifier": tf.io.FixedLenFeature([], tf.string),
    "status": tf.io.FixedLenFeature([], tf.string),
    "embedding": tf.io.RaggedFeature(tf.float32),
}


class EmbeddingRow(NamedTuple):
    """A candidate, embedded or not.

    Attributes:
        identifier: what tells it from others.
        status: `"ok"`, or why there is no embedding.
        embedding: float32 `[dim]`; empty where there is none.
    """

    identifier: bytes
    status: str
    embedding: np.ndarray


class CandidateRows(NamedTuple):
    """What `read_embeddings` reads.

    Attributes:
        identifiers: of the candidates that were embedded, in order.
        embeddings: float32 `[candidates, dim]`.
        failed: identifiers of the others, empty where there is none, and why.

    Example:

    >>> rows = keras_moe.components.CandidateRows(
    ...     ["dog", "cat"], np.eye(2, dtype="float32"), failed=[]
    ... )
    >>> layer = keras_moe.layers.Retrieval(
    ...     rows.embeddings, rows.identifiers, k=1
    ... )
    """

    identifiers: list[str]
    embeddings: np.ndarray
    failed: list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class EmbeddingSummary:
    """All rows in short.

    Attributes:
        candidates: how many were embedded.
        failed: how many were not.
        dims: sizes that embeddings have: one, or something is wrong.
        reasons: why some were not, a few of them.
        repeated: identifiers that several candidates have, a few of them.
    """

    candidates: int = 0
    failed: int = 0
    dims: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    def __add__(self, other: "EmbeddingSummary") -> "EmbeddingSummary":
        """Joins two; the order makes no difference."""
        return EmbeddingSummary(
            self.candidates + other.candidates,
            self.failed + other.failed,
            tuple(sorted({*self.dims, *other.dims})),
            _a_few(self.reasons + other.reasons),
            _a_few(self.repeated + other.repeated),
        )

    def save(self, folder: pathlib.Path) -> None:
        """Writes it beside the rows."""
        text = json.dumps(dataclasses.asdict(self), indent=2)
        (folder / _SUMMARY).write_text(text + "\n")


def _a_few(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(texts))[:3])


def read_summary(folder: pathlib.Path) -> EmbeddingSummary:
    """Reads what `EmbeddingSummary.save` wrote."""
    fields: dict[str, Any] = json.loads((folder / _SUMMARY).read_text())
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)
    return EmbeddingSummary(**fields)


def write_rows(
    uri: str, shard: int, num_shards: int, rows: Iterable[EmbeddingRow]
) -> None:
    """Writes a shard, whole or not at all; a second try replaces it."""
    name = f"rows-{shard:05d}-of-{num_shards:05d}.gz"
    write_shard(uri, name, (_example(r).SerializeToString() for r in rows))


def _example(row: EmbeddingRow) -> tf.train.Example:
    def texts(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    numbers = tf.train.FloatList(value=row.embedding)
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                "identifier": texts(row.identifier),
                "status": texts(row.status.encode()),
                "embedding": tf.train.Feature(float_list=numbers),
            }
        )
    )


def read_embeddings(uri: str | os.PathLike[str]) -> CandidateRows:
    """Reads the rows that a `CandidateEmbedder` wrote.

    Example:
    ```python
    (artifact,) = embedder.outputs["embeddings"].get()
    rows = keras_moe.components.read_embeddings(artifact.uri)
    layer = keras_moe.layers.Retrieval(rows.embeddings, rows.identifiers)
    ```

    Args:
        uri: of a `CandidateEmbeddings` artifact.

    Raises:
        ValueError: if there are other rows than the summary beside them says.
    """
    with read_locally(uri) as folder:
        rows = _read_shards(folder)
        summary = read_summary(folder)
    count = len(rows.identifiers) + len(rows.failed)
    expected = summary.candidates + summary.failed
    if count != expected or len(rows.identifiers) != summary.candidates:
        raise ValueError(
            f"The rows at {uri} must be the {expected} that the summary beside "
            f"them says. Received: {count}; a shard was removed or replaced."
        )
    return rows


def _read_shards(folder: pathlib.Path) -> CandidateRows:
    files = [str(path) for path in sorted(folder.glob("rows-*.gz"))]
    identifiers: list[str] = []
    embeddings: list[np.ndarray] = []
    failed: list[tuple[str, str]] = []
    for records in tf.data.TFRecordDataset(files, COMPRESSION).batch(
        _READ_AT_ONCE
    ):
        parsed: Any = tf.io.parse_example(records, _SPEC)
        names = [name.decode() for name in parsed["identifier"].numpy()]
        statuses = [text.decode() for text in parsed["status"].numpy()]
        good = np.array([status == OK for status in statuses])
        identifiers += [n for n, ok in zip(names, good, strict=True) if ok]
        failed += [
            (name, status)
            for name, status in zip(names, statuses, strict=True)
            if status != OK
        ]
        if good.any():
            kept = tf.ragged.boolean_mask(parsed["embedding"], good)
            embeddings.append(kept.to_tensor().numpy())
    kept = np.concatenate(embeddings) if embeddings else np.zeros([0, 0])
    return CandidateRows(identifiers, kept.astype("float32"), failed)
