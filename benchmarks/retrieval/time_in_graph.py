"""Program: times a tuned index in the graph against a search of all rows.

A query at a time, on one thread, in sessions of exported models, as TensorFlow
Serving runs them. Reads `rows.npy` and `queries.npy` in the folder it is given;
prints figures.
"""

import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
import tensorflow as tf

from benchmarks.shared.alternating import median_milliseconds
from keras_moe.layers import Retrieval
from keras_moe.retrieval import BlockIndex
from keras_moe.retrieval import IndexTuner
from keras_moe.retrieval import exact_search
from keras_moe.retrieval import recall_at_k

_K, _TARGET = 10, 0.95
_TUNE, _TEST, _BATCH, _ROUNDS = 6000, 2000, 50, 200


class AllRows(keras.layers.Layer):
    """A product and a sort: the least that a search of all rows does."""

    def __init__(self, rows: np.ndarray):
        super().__init__()
        self.rows = self.add_weight(
            shape=rows.T.shape, initializer="zeros", trainable=False
        )
        self.rows.assign(rows.T)

    def call(self, queries):
        return keras.ops.top_k(keras.ops.matmul(queries, self.rows), _K)


def main(folder: pathlib.Path) -> dict[str, float]:
    """Returns the figures."""
    rows, queries = (
        np.load(folder / f"{name}.npy") for name in ("rows", "queries")
    )
    index = BlockIndex(rows, k=_K)
    tuned = IndexTuner(index).fit(queries[-_TUNE:], target_recall=_TARGET)
    test = queries[:_TEST]
    _, found = tuned.search(test)
    kept = index.vectors()
    neighbors = exact_search(kept, test, _K)
    searches = {
        name: _exported(layer, rows.shape[1])
        for name, layer in {
            "block_index": index,
            "all_rows": AllRows(rows),
            "retrieval_layer": Retrieval(rows, k=_K),
        }.items()
    }
    single = _milliseconds(searches, test, 1, _ROUNDS)
    batched = _milliseconds(searches, test, _BATCH, _ROUNDS // 10)
    return {
        "in_graph_speedup": single["all_rows"] / single["block_index"],
        "in_graph_speedup_over_layer": (
            single["retrieval_layer"] / single["block_index"]
        ),
        "block_index_recall": float(
            recall_at_k(found, neighbors, kept, test).mean()
        ),
        "block_index_predicted_recall": tuned.predicted_recall,
        "block_index_blocks": tuned.settings["blocks_to_search"],
        "block_index_bytes": tuned.bytes_per_query,
        **{f"{name}_ms_single": each for name, each in single.items()},
        **{
            f"{name}_ms_in_batch": each / _BATCH
            for name, each in batched.items()
        },
    }


def _exported(
    layer: keras.layers.Layer, dim: int
) -> Callable[[np.ndarray], None]:
    """Returns the exported layer, in a session of one thread."""
    model = keras.Sequential([keras.Input([dim]), layer])
    graph = tf.Graph()
    session = tf.compat.v1.Session(
        graph=graph,
        config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        with graph.as_default():
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = loaded.signature_def["serving_default"]
    return session.make_callable(
        [each.name for each in signature.outputs.values()],
        [each.name for each in signature.inputs.values()],
    )


def _milliseconds(
    searches, queries: np.ndarray, batch: int, rounds: int
) -> dict[str, float]:
    """Returns the median time of a call, each with other queries."""
    random = np.random.default_rng(0)

    def call(search) -> Callable[[], None]:
        return lambda: search(
            queries[random.integers(len(queries), size=batch)]
        )

    return median_milliseconds(
        {name: call(search) for name, search in searches.items()}, rounds
    )


if __name__ == "__main__":
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    print(json.dumps(main(pathlib.Path(sys.argv[1]))))
