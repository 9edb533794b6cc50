"""What a search over all documents finds, after each epoch."""

from collections.abc import Sequence
from typing import Any

import keras
import keras_rs
import numpy as np

from keras_moe.layers import Retrieval
from keras_moe.metrics import SearchMetric
from keras_moe.models.dual_encoder._batch import DOCUMENT
from keras_moe.models.dual_encoder._batch import QUERY
from keras_moe.models.dual_encoder._dual_encoder import DualEncoder
from keras_moe.validation import check_size


class RetrievalEvaluation(keras.callbacks.Callback):
    """Searches all documents for queries, and measures what it finds.

    The loss is that of a batch, whose few documents are easily told apart. This
    callback embeds a fixed set of documents after each epoch, and adds
    `val_mrr`, `val_recall_at_10` and the like to the logs, for callbacks that
    come after it, such as `EarlyStopping`.

    Args:
        queries: what the query's encoder reads.
        documents: what the document's encoder reads, all that are searched.
        relevant: int or string `[queries]` or `[queries, relevant]`: what each
            query should find, filled up with -1 or empty strings.
        document_ids: names of the documents; by default, numbers of rows.
        metrics: metrics of keras-rs, each with a `k`; by default the reciprocal
            rank in the first `k`, and recall at 1, 10 and `k`.
        k: how many documents a search returns.
        batch_size: rows of a batch.
        prefix: of names in the logs.

    Raises:
        ValueError: if a metric looks at more than `k` documents; after an
            epoch, if there are fewer documents than `k`, or one has a vector
            that is not finite.

    Example:

    >>> encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model = keras_moe.models.DualEncoder(encoder)
    >>> model.compile("adam")
    >>> x = {"query": np.random.rand(6, 8), "document": np.random.rand(6, 8)}
    >>> search = keras_moe.models.RetrievalEvaluation(
    ...     x["query"], x["document"], relevant=np.arange(6), k=3
    ... )
    >>> history = model.fit(x, callbacks=[search], verbose=0)
    >>> [name for name in history.history if name.startswith("val")]
    ['val_mrr', 'val_recall_at_1', 'val_recall_at_3']
    """

    def __init__(
        self,
        queries: Any,
        documents: Any,
        relevant: Any,
        document_ids: Any = None,
        metrics: Sequence[keras.metrics.Metric] | None = None,
        k: int = 100,
        batch_size: int = 512,
        prefix: str = "val_",
    ):
        super().__init__()
        check_size(k=k, batch_size=batch_size)
        self.queries = queries
        self.documents = documents
        self.relevant = np.asarray(relevant)
        self.document_ids = document_ids
        self.metrics = [
            SearchMetric(metric)
            for metric in (_default_metrics(k) if metrics is None else metrics)
        ]
        for each in self.metrics:
            if each.metric.k > k:
                raise ValueError(
                    "`k` must be at least that of each metric. Received: k="
                    f"{k}, and {each.name!r} with k={each.metric.k}."
                )
        self.k = k
        self.batch_size = batch_size
        self.prefix = prefix

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds what is measured to the logs."""
        if logs is not None:
            logs.update(self.measure(self.model))

    def measure(self, model: DualEncoder) -> dict[str, float]:
        """Returns what a search by a model finds, by names as in the logs."""
        search = Retrieval(
            self._embed(model, DOCUMENT, self.documents),
            self.document_ids,
            k=self.k,
            return_scores=False,
        )
        vectors = self._embed(model, QUERY, self.queries)
        for metric in self.metrics:
            metric.reset_state()
        for first in range(0, len(vectors), self.batch_size):
            rows = slice(first, first + self.batch_size)
            found = search(vectors[rows])
            for metric in self.metrics:
                metric.update_state(self.relevant[rows], found)
        return {
            self.prefix + metric.name: float(metric.result())
            for metric in self.metrics
        }

    def _embed(self, model: DualEncoder, role: str, inputs: Any) -> np.ndarray:
        encode = {
            QUERY: model.encode_queries,
            DOCUMENT: model.encode_documents,
        }[role]
        rows = len(keras.tree.flatten(inputs)[0])
        return np.concatenate(
            [
                np.asarray(encode(_rows(inputs, first, self.batch_size)))
                for first in range(0, rows, self.batch_size)
            ]
        )


def _rows(inputs: Any, first: int, count: int) -> Any:
    return keras.tree.map_structure(lambda x: x[first : first + count], inputs)


def _default_metrics(k: int) -> list[keras.metrics.Metric]:
    recalls = sorted({1, min(10, k), k})
    return [
        keras_rs.metrics.MeanReciprocalRank(k=k, name="mrr"),
        *(
            keras_rs.metrics.RecallAtK(k=each, name=f"recall_at_{each}")
            for each in recalls
        ),
    ]
