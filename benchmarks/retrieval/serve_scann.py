"""Program: builds ScaNN's indexes and searches them, in its own environment.

ScaNN cannot be imported after our TensorFlow. Reads a request a line, an object
of JSON with the name of a function and its arguments, and answers each with a
line. Arrays are files in the folder that it is given.
"""

import json
import os
import pathlib
import sys
from typing import Any

import numpy as np
from scann import scann_ops_pybind
from scann.partitioning import partitioner_pb2
from scann.proto import centers_pb2

from benchmarks.retrieval.timing import milliseconds_a_query

_K = 10
# What ScaNN's documentation and its autopilot take for dot products.
_DIMS_PER_CODE, _THRESHOLD = 2, 0.2


class Scann:
    """A tree of our own size, and what the autopilot makes of the same rows."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        rows = np.load(folder / "rows.npy")
        leaves = round(len(rows) ** 0.5)
        self.tree = (
            scann_ops_pybind.builder(rows, _K, "dot_product")
            .tree(leaves, leaves, training_sample_size=len(rows))
            .score_ah(
                _DIMS_PER_CODE, anisotropic_quantization_threshold=_THRESHOLD
            )
            .reorder(_K)
            .build()
        )
        self.autopilot = (
            scann_ops_pybind.builder(rows, _K, "dot_product")
            .autopilot()
            .build()
        )
        self._write_levels()

    def _write_levels(self) -> None:
        """Writes centres, leaves, and rows as their codes know them."""
        parts = self.folder / "tree"
        parts.mkdir()
        self.tree.serialize(str(parts))
        partitioner = partitioner_pb2.SerializedPartitioner.FromString(
            (parts / "serialized_partitioner.pb").read_bytes()
        )
        root = partitioner.kmeans.kmeans_tree.root
        centres = np.empty((len(root.children), len(root.centers[0].dimension)))
        for center, child in zip(root.centers, root.children, strict=True):
            centres[child.leaf_id] = center.dimension
        codebook = centers_pb2.CentersForAllSubspaces.FromString(
            (parts / "ah_codebook.pb").read_bytes()
        )
        words = np.array(
            [
                [list(each.feature_value_float) for each in subspace.center]
                for subspace in codebook.subspace_centers
            ]
        )
        codes = np.load(parts / "hashed_dataset.npy")
        leaf = np.load(parts / "datapoint_to_token.npy")
        residuals = np.concatenate(
            [words[i, codes[:, i]] for i in range(len(words))], axis=1
        )
        coded = (centres[leaf] + residuals).astype("float32")
        np.save(self.folder / "centres.npy", centres.astype("float32"))
        np.save(self.folder / "leaf.npy", leaf)
        np.save(self.folder / "coded.npy", coded)

    def search(
        self, queries: str, out: str, k: int, leaves: int, candidates: int
    ) -> None:
        """Writes the rows that the tree finds."""
        found, _ = self.tree.search_batched(
            np.load(queries),
            final_num_neighbors=k,
            pre_reorder_num_neighbors=candidates,
            leaves_to_search=leaves,
        )
        np.save(out, found.astype("int64"))

    def compare(
        self, queries: str, out: str, leaves: int, candidates: int
    ) -> dict[str, float]:
        """Writes what the autopilot finds; times both in turns."""
        asked = np.load(queries)
        np.save(out, self.autopilot.search_batched(asked)[0].astype("int64"))
        return milliseconds_a_query(
            {
                "autopilot": lambda: self.autopilot.search_batched(asked),
                "tuned": lambda: self.tree.search_batched(
                    asked,
                    pre_reorder_num_neighbors=candidates,
                    leaves_to_search=leaves,
                ),
            },
            len(asked),
        )


def main() -> None:
    """Answers requests until there are no more."""
    # ScaNN writes to the output, too: answers have one of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    scann = Scann(pathlib.Path(sys.argv[1]))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        answer = getattr(scann, request.pop("function"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
