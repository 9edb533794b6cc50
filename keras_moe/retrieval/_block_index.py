"""An index that is part of the model: blocks of neighbours, in the graph."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_moe.backend import dot_rows
from keras_moe.backend import gather_in_rows
from keras_moe.backend import gather_rows
from keras_moe.layers.retrieval._candidate_layer import filled
from keras_moe.layers.retrieval._candidate_rows import STORAGES
from keras_moe.layers.retrieval._search_layer import SearchLayer
from keras_moe.retrieval._blocks import Blocks
from keras_moe.retrieval._blocks import cut_into_blocks
from keras_moe.retrieval._blocks import max_blocks_for
from keras_moe.retrieval._blocks import num_leaves_for
from keras_moe.retrieval._levels import Level
from keras_moe.retrieval._levels import Settings
from keras_moe.retrieval._levels import check_settings
from keras_moe.retrieval._ranks import rank_of
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import LayoutTable
from keras_moe.types import Tensor
from keras_moe.validation import check_seed
from keras_moe.validation import check_size

# Rows that `search` gathers at once: 64 MB of them in 64 dimensions.
_ROWS_AT_ONCE = 2**18


@register
class BlockIndex(SearchLayer):
    """Looks for the `k` best candidates in the blocks nearest to a query.

    Candidates are gathered in leaves by k-means, and leaves cut in blocks. A
    query is held against the centre of each block, and then against the
    candidates of the best blocks alone. So a single query reads a small part
    of what an exact search reads, and some of the best may be missed: how many,
    `IndexTuner` finds out, and sets `blocks_to_search`.

    As a layer it is a `keras_moe.layers.Retrieval`: candidates and identifiers
    are weights, of `.keras` files and SavedModels as well; a stock TensorFlow
    Serving answers; scores are ranked in float32 under every dtype policy; a
    query that is not finite, or so long that a score might not be, is answered
    with NaN and -1 (or an empty string).
    Equal scores come in no order that is promised. Meant for single queries and
    small batches: blocks are gathered for each query, and where those are many,
    `Retrieval` is faster. It is also the one to spread over a mesh.

    Sources: an inverted file as of [Jégou et al., 2011](https://doi.org/
    10.1109/TPAMI.2010.57), here without codes, in blocks of one size so that
    shapes are static.

    Args:
        candidate_embeddings: `[candidates, dim]`; `None` where
            `update_candidates` will give them.
        candidate_ids: an integer or a string for each, all different; `None`
            for answers that are numbers of rows.
        k: how many to return; a call may ask for fewer.
        blocks_to_search: number of blocks that a query reads; all, where there
            are fewer. Functions that were traced keep the number that they were
            traced with.
        return_scores: whether scores are returned, too.
        storage: `"float32"`, `"bfloat16"`, or `"int8"` with a scale for each
            row.
        capacity: number of candidates that there is room for; by default as
            many as are given first.
        dim: size of embeddings; needed only without candidates.
        id_kind: `"row"`, `"integer"` or `"string"`; as `dim`.
        id_width: bytes of the longest string that there is room for.
        num_leaves: leaves of k-means, by default the square root of the number
            of candidates; fewer where they would hold few.
        block_size: candidates of a block at most.
        seed: of k-means. Equal candidates give an equal index.

    Input shape:
        `(..., dim)`.

    Output shape:
        Scores `(..., k)` of the layer's compute dtype, the greatest first, and
        identifiers `(..., k)`: int32 numbers of rows, int64 (int32 on JAX), or
        strings.

    Raises:
        ValueError: as for `Retrieval`; if `blocks_to_search` are so few that
            they may hold less than `k` candidates.

    Example:

    >>> angle = np.linspace(0.0, 6.0, 5000)
    >>> rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> index = keras_moe.retrieval.BlockIndex(rows, k=3, blocks_to_search=2)
    >>> scores, found = index(rows[[42]])
    >>> sorted(np.array(found)[0].tolist())
    [41, 42, 43]
    """

    LAYOUT: LayoutTable = {}

    def __init__(
        self,
        candidate_embeddings: Any = None,
        candidate_ids: Any = None,
        k: int = 10,
        blocks_to_search: int = 16,
        return_scores: bool = True,
        storage: str = "float32",
        capacity: int | None = None,
        dim: int | None = None,
        id_kind: str | None = None,
        id_width: int | None = None,
        num_leaves: int | None = None,
        block_size: int = 128,
        seed: int = 0,
        **kwargs,
    ):
        check_size(
            blocks_to_search=blocks_to_search,
            num_leaves=num_leaves,
            block_size=block_size,
        )
        check_seed(seed)
        super().__init__(
            k=k,
            return_scores=return_scores,
            reordered=True,
            storage=storage,
            capacity=capacity,
            dim=dim,
            id_kind=id_kind,
            id_width=id_width,
            **kwargs,
        )
        self.blocks_to_search = blocks_to_search
        self.num_leaves = num_leaves
        self.block_size = block_size
        self.seed = seed
        self.centres: Any = None
        self.centre_bias: Any = None
        self.block_rows: Any = None
        self.largest: Any = None
        self._fill(candidate_embeddings, candidate_ids)

    # === Weights ===

    def _add_weights(self) -> None:
        super()._add_weights()
        leaves = num_leaves_for(self.capacity, self.num_leaves, self.block_size)
        blocks = max_blocks_for(self.capacity, leaves, self.block_size)
        self.centres = self._state("centres", (blocks, self.dim), "float32")
        # Minus infinity beyond the last block.
        self.centre_bias = self._state("centre_bias", (blocks,), "float32")
        # Numbers of the rows of each block; -1 fills up.
        self.block_rows = self._state(
            "block_rows", (blocks, self.block_size), "int32"
        )
        # No number of a row or a centre is larger.
        self.largest = self._state("largest", (), "float32")

    def _arrange(self, rows: np.ndarray) -> Blocks:
        leaves = num_leaves_for(len(rows), self.num_leaves, self.block_size)
        blocks = cut_into_blocks(rows, leaves, self.block_size, self.seed)
        least = _least_blocks(blocks.sizes, self.k)
        if self.blocks_to_search < least:
            raise ValueError(
                f"`blocks_to_search` must be at least {least}: fewer blocks "
                f"might hold less than k={self.k} candidates. Received: "
                f"blocks_to_search={self.blocks_to_search}."
            )
        return blocks

    def _write(
        self, rows: np.ndarray, names: np.ndarray, blocks: Blocks
    ) -> None:
        super()._write(rows, names, blocks.order)
        most = self.centre_bias.shape[0]
        count = len(blocks.sizes)
        place = np.arange(self.block_size, dtype="int32")
        starts, sizes = np.expand_dims([blocks.starts, blocks.sizes], 2)
        own = np.where(place < sizes, starts + place, -1)
        unused = np.full((most - count, self.block_size), -1)
        self.block_rows.assign(np.concatenate([own, unused]))
        self.centres.assign(filled(blocks.centres, most))
        self.centre_bias.assign(np.where(np.arange(most) < count, 0, -np.inf))
        kept = ops.convert_to_numpy(ops.cast(self.candidates, "float32"))
        self.largest.assign(
            max(np.abs(each).max() for each in (rows, kept, blocks.centres))
        )

    # === Search ===

    def find(
        self, queries: Tensor, k: int, blocks_to_search: int | None = None
    ) -> tuple[Tensor, Tensor]:
        lead = tuple(ops.shape(queries)[:-1])
        queries = ops.reshape(ops.cast(queries, "float32"), (-1, self.dim))
        # Not finite where a score might not be: a sort takes no NaN.
        reach = ops.sum(ops.abs(queries), axis=-1, keepdims=True) * self.largest
        finite = ops.isfinite(reach)
        queries = ops.where(finite, queries, 0.0)
        rows = self._rows_of_blocks(queries, blocks_to_search)
        scores = self._score_rows(queries, ops.maximum(rows, 0))
        scores = ops.where(rows < 0, -np.inf, scores)
        missing = max(k - rows.shape[1], 0)
        if missing:
            rows = ops.pad(rows, ((0, 0), (0, missing)), constant_values=-1)
            scores = ops.pad(
                scores, ((0, 0), (0, missing)), constant_values=-np.inf
            )
        scores, place = ops.top_k(scores, k)
        best = ops.where(finite, gather_in_rows(rows, place), -1)
        scores = ops.where(finite, scores, np.nan)
        if len(lead) == 1:
            return scores, best
        return ops.reshape(scores, (*lead, k)), ops.reshape(best, (*lead, k))

    def _rows_of_blocks(
        self, queries: Tensor, blocks_to_search: int | None
    ) -> Tensor:
        """Returns rows of the nearest blocks, `[queries, rows]`; -1 is none."""
        most = blocks_to_search or self.blocks_to_search
        most = min(most, self.centre_bias.shape[0])
        scores = ops.matmul(queries, ops.transpose(self.centres))
        _, blocks = ops.top_k(scores + self.centre_bias, most)
        rows = gather_rows(self.block_rows, blocks)
        return ops.reshape(rows, (-1, most * self.block_size))

    def _score_rows(self, queries: Tensor, rows: Tensor) -> Tensor:
        gathered = ops.cast(gather_rows(self.candidates, rows), "float32")
        scores = dot_rows(queries, gathered)
        if self.scales is None:
            return scores
        return scores * gather_rows(self.scales, rows)

    # === What a tuner asks for ===

    @property
    def settings(self) -> dict[str, int]:
        """`{"blocks_to_search": ...}`, at most the blocks that there are."""
        most = 0 if self.block_rows is None else len(self._block_sizes())
        blocks = self.blocks_to_search
        return {"blocks_to_search": min(blocks, most or blocks)}

    @settings.setter
    def settings(self, settings: Settings) -> None:
        known = check_settings(self.levels(self.k), settings)
        self.blocks_to_search = known["blocks_to_search"]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of candidates, identifiers and blocks; not of settings."""
        digest = hashlib.sha256()
        for weight in self.weights:
            value = np.ascontiguousarray(ops.convert_to_numpy(weight))
            said = f"{weight.name} {weight.dtype} {value.shape}"
            digest.update(said.encode())
            digest.update(value.tobytes())
        return digest.hexdigest()

    def vectors(self) -> np.ndarray:
        """Returns the candidates as they are kept, float32, in blocks."""
        count = int(self.num_candidates)
        rows = ops.cast(ops.convert_to_tensor(self.candidates), "float32")
        rows = np.asarray(rows)[:count]
        if self.scales is None:
            return rows
        return rows * np.expand_dims(np.asarray(self.scales)[:count], 1)

    def levels(self, k: int) -> Sequence[Level]:
        """Returns the one level that has a setting: the blocks."""
        sizes = self._block_sizes()
        row_bytes = self.dim * STORAGES[self.storage]
        row_bytes += 0 if self.scales is None else 4
        row_bytes += 4  # of its number
        return (
            Level(
                "blocks_to_search",
                least=_least_blocks(sizes, k),
                most=len(sizes),
                fixed_bytes=self.centre_bias.shape[0] * (self.dim + 1) * 4,
                bytes_each=self.block_size * row_bytes,
            ),
        )

    def search(
        self, queries: np.ndarray, k: int, settings: Settings | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores, and rows as `vectors` numbers them.

        Args:
            queries: `[queries, dim]`.
            k: how many, any number of them.
            settings: `{"blocks_to_search": ...}`; those of the index by
                default.
        """
        check_size(k=k)
        known = check_settings(self.levels(k), settings or self.settings)
        blocks = known["blocks_to_search"]
        at_once = max(_ROWS_AT_ONCE // (blocks * self.block_size), 1)
        parts = np.split(queries, range(at_once, len(queries), at_once))
        found = [
            [
                np.asarray(each)
                for each in self.find(ops.convert_to_tensor(part), k, blocks)
            ]
            for part in parts
        ]
        scores, rows = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(rows)

    def ranks(
        self, queries: np.ndarray, neighbors: np.ndarray, choices: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Returns the number of blocks after which each neighbour is found."""
        sizes = self._block_sizes()
        centres = np.asarray(self.centres)[: len(sizes)]
        block = np.repeat(np.arange(len(sizes)), sizes)
        return (rank_of(queries @ centres.T, block[neighbors]),)

    def _block_sizes(self) -> np.ndarray:
        sizes = np.sum(np.asarray(self.block_rows) >= 0, axis=1)
        return sizes[sizes > 0]

    # === What the layer is ===

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "blocks_to_search": self.blocks_to_search,
            "num_leaves": self.num_leaves,
            "block_size": self.block_size,
            "seed": self.seed,
        }


def _least_blocks(sizes: np.ndarray, k: int) -> int:
    """Returns the number of blocks that hold k rows, whichever they are."""
    held = np.cumsum(np.sort(sizes))
    return min(int(np.searchsorted(held, k)) + 1, len(sizes))
