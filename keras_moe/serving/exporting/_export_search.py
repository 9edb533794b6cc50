"""From a query encoder and a search to a SavedModel that answers texts."""

import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_moe.serving.exporting._check_endpoints import Endpoint
from keras_moe.serving.exporting._check_endpoints import WriteFn
from keras_moe.serving.exporting._export_endpoints import write_endpoints
from keras_moe.validation import check_size

OK = "ok"

EncodeFn = Callable[[tf.Tensor], Mapping[str, tf.Tensor]]


def export_search(
    directory: str | os.PathLike[str],
    encode: EncodeFn,
    search: Any,
    default_k: int = 10,
    input_name: str = "query",
    example_key: str | None = None,
    tracked: Iterable = (),
    assets: Mapping[str, WriteFn] | None = None,
) -> None:
    """Writes a search with its index: texts in, identifiers and scores out.

    The index is part of the model, so the two cannot be of different trainings,
    and a stock TensorFlow Serving answers. Signatures:

    - `serving_default`: the texts; `default_k` answers for each.
    - `search`: the texts and `k`, an integer, how many answers each has; more
      than the search's own `k` are that many, fewer than 1 an error
      (`INVALID_ARGUMENT`).
    - `examples`: serialized `tf.train.Example`s with the text; as many answers
      as there are, for an evaluation.

    Each answers `identifiers` and `scores` `[batch, k]`, the best first, and
    `status` `[batch]`. A row whose status is not `"ok"` has no answer: empty
    identifiers (or -1) and scores of 0. `"not_finite"` is one whose vector or
    scores are not finite in the dtypes of the search.

    Args:
        directory: where to write; must be new or empty, see
            `export_endpoints`.
        encode: from texts `[batch]`, in a graph, to `embedding` `[batch, dim]`
            and, if it refuses some, `status` `[batch]`, `"ok"` or a reason.
        search: `keras_moe.layers.Retrieval`, `keras_moe.retrieval.BlockIndex`,
            or another layer that is called like them, with its candidates;
            one that returns scores.
        default_k: how many answers a request has that does not say.
        input_name: name of the texts.
        example_key: the feature of an example that is the text; `None` for
            `input_name`.
        tracked: as of `export_endpoints`.
        assets: as of `export_endpoints`.

    Raises:
        ValueError: if `default_k` is more than the search's `k`, `encode` or
            `search` does not return what it must, or an argument is not as
            `export_endpoints` describes it.

    Example:

    >>> rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> search = keras_moe.layers.Retrieval(rows, ["short", "long"], k=2)
    >>> def encode(texts):
    ...     length = tf.cast(tf.strings.length(texts), tf.float32)
    ...     return {"embedding": tf.stack([9.0 - length, length], axis=1)}
    >>> keras_moe.serving.export_search(directory, encode, search, default_k=1)
    >>> served = tf.saved_model.load(directory).signatures["search"]
    >>> answer = served(query=tf.constant(["a", "antidote"]), k=tf.constant(1))
    >>> answer["identifiers"].numpy().tolist()
    [[b'short'], [b'long']]
    """
    check_size(default_k=default_k)
    if default_k > search.k:
        raise ValueError(
            "`default_k` must be at most the k of `search`, "
            f"{search.k}. Received: default_k={default_k}."
        )
    endpoints = _SearchEndpoints(
        encode, search, input_name, example_key or input_name
    )
    write_endpoints(
        directory,
        endpoints.endpoints(default_k),
        tracked,
        assets,
    )


class _SearchEndpoints:
    """The functions behind the signatures, one graph behind all of them."""

    def __init__(
        self,
        encode: EncodeFn,
        search: Any,
        input_name: str,
        example_key: str,
    ) -> None:
        self._encode = encode
        self._search = search
        self._input_name = input_name
        self._example_key = example_key
        self._find = tf.function(
            self._encode_and_search,
            input_signature=[
                tf.TensorSpec([None], tf.string),
                tf.TensorSpec([], tf.int32),
            ],
            autograph=False,
        )

    def endpoints(self, default_k: int) -> dict[str, Endpoint]:
        """Gives the signatures, for `export_endpoints`."""
        texts = tf.TensorSpec([None], tf.string, name=self._input_name)
        examples = tf.TensorSpec([None], tf.string, name="examples")
        k = tf.TensorSpec([], tf.int32, name="k")

        def search_default(texts: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._find(texts, tf.constant(default_k))

        return {
            "serving_default": (search_default, [texts]),
            "search": (self._find, [texts, k]),
            "examples": (self._search_examples, [examples]),
        }

    def _search_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        text = tf.io.FixedLenFeature([], tf.string)
        parsed = tf.io.parse_example(examples, {self._example_key: text})
        texts = parsed[self._example_key]
        return self._find(texts, tf.constant(self._search.k))

    def _encode_and_search(
        self, texts: tf.Tensor, k: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        tf.debugging.Assert(
            k > 0, ["`k` must be a positive integer. Received: k =", k]
        )
        embedding, status = _read(self._encode(texts), texts)
        scores, identifiers = _found(self._search(embedding, k=k))
        none = tf.constant(
            "" if identifiers.dtype == tf.string else -1, identifiers.dtype
        )
        there = tf.math.is_finite(scores)
        # Vectors that were finite need not be so in the search's own dtype,
        # nor scores; minus infinity without a name is where there are no more.
        no_more = tf.equal(scores, -np.inf) & tf.equal(identifiers, none)
        known = tf.reduce_all(there | no_more, axis=1)
        status = _with_reason(
            status, known & tf.reduce_all(there[:, :1], axis=1)
        )
        there &= tf.equal(status, OK)[:, tf.newaxis]
        return {
            "identifiers": tf.where(there, identifiers, none),
            # Not NaN or infinity, for which JSON has no word.
            "scores": tf.where(there, scores, tf.zeros_like(scores)),
            "status": status,
        }


def _read(encoded: Any, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns embeddings, and why some of them are not to be searched for."""
    if not isinstance(encoded, Mapping) or "embedding" not in encoded:
        raise ValueError(
            "`encode` must return a dictionary with `embedding`. Received: "
            f"{encoded!r}."
        )
    embedding = tf.convert_to_tensor(encoded["embedding"])
    if not embedding.dtype.is_floating or embedding.shape.rank != 2:
        raise ValueError(
            "`encode` must return `embedding` as floats (batch, dim). "
            f"Received: {embedding.dtype.name} {embedding.shape}."
        )
    status = encoded.get("status")
    if status is None:
        status = tf.fill(tf.shape(texts), OK)
    finite = tf.reduce_all(tf.math.is_finite(embedding), axis=1)
    return embedding, _with_reason(status, finite)


def _found(answer: Any) -> Sequence[tf.Tensor]:
    """Returns scores and identifiers, both of which are served."""
    if not isinstance(answer, Sequence) or len(answer) != 2:
        raise ValueError(
            "`search` must return scores and identifiers: make it with "
            f"return_scores=True. Received: {answer!r}."
        )
    return answer


def _with_reason(status: tf.Tensor, finite: tf.Tensor) -> tf.Tensor:
    lost = tf.equal(status, OK) & tf.logical_not(finite)
    return tf.where(lost, "not_finite", status)
