"""An index of faiss, for many queries at once."""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from keras_moe.atomic_file import atomic_file
from keras_moe.layers.retrieval._candidate_rows import read_rows
from keras_moe.layers.retrieval._identifiers import Identifiers
from keras_moe.layers.retrieval._identifiers import read_identifiers
from keras_moe.retrieval._levels import Level
from keras_moe.retrieval._levels import Settings
from keras_moe.retrieval._levels import check_settings
from keras_moe.retrieval._ranks import ranks_within
from keras_moe.validation import check_seed
from keras_moe.validation import check_size

# What product quantisation with 16 values learns from at least.
_FEWEST = 64
# More of them are rescored nowhere.
_MOST_RESCORED = 4096


class FaissIndex:
    """Looks for the `k` best candidates with faiss.

    Three levels: lists of neighbours, of which the nearest are searched; codes
    of half a byte for each two dimensions, by which candidates in them are
    ordered; and the candidates themselves, by which the best are rescored.
    `IndexTuner` finds the settings of the first two.

    Faster than `BlockIndex` where many queries come, and not part of a graph:
    for a service in Python. `keras_moe.serving` and TensorFlow Serving answer
    with SavedModels, which hold a `BlockIndex`. Threads may search at once.

    Needs the extra `[ann]`. Sources: inverted lists and product quantisation,
    [Jégou et al., 2011](https://doi.org/10.1109/TPAMI.2010.57); scanned in
    registers, [André et al., 2021](https://arxiv.org/abs/1812.09162).

    Args:
        candidate_embeddings: `[candidates, dim]`, 64 at least.
        candidate_ids: an integer or a string for each, all different; `None`
            for answers that are numbers of rows.
        k: how many to return; a call may ask for another number.
        num_lists: number of lists, by default the square root of the number of
            candidates.
        num_codes: codes of a candidate, by default one for each two dimensions;
            `dim` must be a multiple.
        seed: of k-means.

    Attributes:
        settings: `lists_to_search` and `candidates_to_rescore`.

    Raises:
        ModuleNotFoundError: if there is no faiss.
        ValueError: if candidates are not finite, or fewer than `k` or 64,
            identifiers repeat, or an argument is out of its range.

    Example:

    >>> rows = np.random.default_rng(0).normal(size=(2000, 8))
    >>> rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    >>> index = keras_moe.retrieval.FaissIndex(rows, k=3)
    >>> index.settings
    {'lists_to_search': 2, 'candidates_to_rescore': 30}
    >>> scores, found = index(rows[[42]])
    >>> int(found[0, 0])
    42
    """

    storage = "float32"

    def __init__(
        self,
        candidate_embeddings: Any,
        candidate_ids: Any = None,
        k: int = 10,
        num_lists: int | None = None,
        num_codes: int | None = None,
        seed: int = 0,
    ):
        check_size(k=k, num_lists=num_lists, num_codes=num_codes)
        check_seed(seed)
        faiss = _import_faiss()
        rows = read_rows(candidate_embeddings)
        count, dim = rows.shape
        if count < max(k, _FEWEST):
            raise ValueError(
                f"There must be at least k={k} candidates, and {_FEWEST}. "
                f"Received: {count}. `keras_moe.layers.Retrieval` takes few."
            )
        lists = num_lists or round(count**0.5)
        codes = num_codes or (dim // 2 if dim % 2 == 0 else dim)
        if lists > count or dim % codes:
            raise ValueError(
                f"`num_lists` must be at most the {count} candidates, and "
                f"`num_codes` a divisor of their size {dim}. Received: "
                f"num_lists={lists}, num_codes={codes}."
            )
        coarse = faiss.index_factory(
            dim, f"IVF{lists},PQ{codes}x4fsr", faiss.METRIC_INNER_PRODUCT
        )
        for clustering in (coarse.cp, coarse.pq.cp):
            clustering.seed = seed
            clustering.min_points_per_centroid = 1
        coarse.train(rows)
        index = faiss.IndexRefineFlat(coarse)
        index.add(rows)
        # Codes are read back by `ranks`, and a map made then would be in files.
        coarse.make_direct_map()
        names = _identifiers(candidate_ids, count)
        settings = {
            "lists_to_search": max(lists // 16, 1),
            "candidates_to_rescore": min(10 * k, count),
        }
        self._set(index, names, k, settings)

    def _set(
        self, index: Any, names: Identifiers, k: int, settings: Settings
    ) -> None:
        faiss = _import_faiss()
        self._index = index
        self._coarse = faiss.downcast_index(index.base_index)
        self._identifiers = names
        self.k = k
        self.settings = settings

    @property
    def settings(self) -> dict[str, int]:
        """`lists_to_search` and `candidates_to_rescore`."""
        return dict(self._settings)

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = check_settings(self.levels(self.k), settings)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of candidates, codes and identifiers; not of settings."""
        digest = hashlib.sha256(_import_faiss().serialize_index(self._index))
        digest.update(self._identifiers.kind.encode())
        digest.update(self._identifiers.array.tobytes())
        return digest.hexdigest()

    # === Search ===

    def __call__(
        self, queries: Any, k: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores and identifiers, `[queries, k]`.

        Args:
            queries: `[queries, dim]`. One that is not finite is answered with
                NaN and -1, or an empty string.
            k: how many; by default that of the index.

        Returns:
            float32 scores, the greatest first, and int32 numbers of rows,
            int64 integers or byte strings. Where the lists searched hold fewer,
            minus infinity and -1, or empty strings, fill up.
        """
        queries = np.asarray(queries, "float32")
        finite = np.isfinite(queries).all(axis=-1)
        asked = np.where(np.expand_dims(finite, -1), queries, 0)
        scores, rows = self.search(asked, self.k if k is None else k)
        scores[~finite], rows[~finite] = np.nan, -1
        return scores, self._names_of(rows)

    def search(
        self, queries: np.ndarray, k: int, settings: Settings | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores and numbers of rows; `settings` are one call's own."""
        queries = np.ascontiguousarray(queries, "float32")
        if queries.ndim != 2 or queries.shape[1] != self._index.d:
            raise ValueError(
                f"Queries must have the size of candidates, [queries, "
                f"{self._index.d}]. Received: a shape of {queries.shape}."
            )
        check_size(k=k)
        known = check_settings(
            self.levels(k), {**self._settings, **(settings or {})}
        )
        faiss = _import_faiss()
        # faiss rounds down, and half more keeps it from rounding too far.
        factor = (known["candidates_to_rescore"] + 0.5) / k
        parameters = faiss.IndexRefineSearchParameters(
            k_factor=factor,
            base_index_params=faiss.SearchParametersIVF(
                nprobe=known["lists_to_search"]
            ),
        )
        scores, rows = self._index.search(queries, k, params=parameters)
        scores[rows < 0] = -np.inf
        return scores, rows

    def _names_of(self, rows: np.ndarray) -> np.ndarray:
        names = self._identifiers
        if names.kind == "row":
            return rows.astype("int32")
        found = names.array[np.maximum(rows, 0)]
        if names.kind == "string":
            found[rows < 0] = 0
            return found.view(f"S{names.width}")[..., 0]
        return np.where(rows < 0, -1, found)

    # === What a tuner asks for ===

    def vectors(self) -> np.ndarray:
        """Returns the candidates, float32 `[candidates, dim]`, as given."""
        return self._index.refine_index.reconstruct_n(0, self._index.ntotal)

    def levels(self, k: int) -> Sequence[Level]:
        """Returns the levels with settings: lists, and codes in them."""
        coarse, row_bytes = self._coarse, 4 * self._index.d
        in_list = coarse.ntotal / coarse.nlist
        most = min(max(_MOST_RESCORED, 10 * k), coarse.ntotal)
        return (
            Level(
                "lists_to_search",
                least=1,
                most=coarse.nlist,
                fixed_bytes=coarse.nlist * row_bytes,
                bytes_each=in_list * coarse.pq.M / 2,
            ),
            Level("candidates_to_rescore", k, most, 0, row_bytes),
        )

    def ranks(
        self, queries: np.ndarray, neighbors: np.ndarray, choices: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Returns ranks among lists, and among the codes of the best lists."""
        coarse = self._coarse
        centres = coarse.quantizer.reconstruct_n(0, coarse.nlist)
        coded, lists = self._coded()
        return ranks_within(
            queries @ centres.T, lists, queries @ coded.T, neighbors, choices
        )

    def _coded(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns candidates as their codes know them, and their lists."""
        faiss, coarse = _import_faiss(), self._coarse
        lists = np.empty(coarse.ntotal, "int64")
        for number in range(coarse.nlist):
            size = coarse.invlists.list_size(number)
            ids = coarse.invlists.get_ids(number)
            lists[faiss.rev_swig_ptr(ids, size)] = number
            coarse.invlists.release_ids(number, ids)
        return coarse.reconstruct_n(0, coarse.ntotal), lists

    # === Files ===

    def save(self, path: str | os.PathLike) -> None:
        """Writes one file, at once or not at all; settings go with it."""
        config = {
            "k": self.k,
            "settings": self.settings,
            "id_kind": self._identifiers.kind,
        }
        file = io.BytesIO()
        np.savez(
            file,
            config=json.dumps(config),
            index=_import_faiss().serialize_index(self._index),
            identifiers=self._identifiers.array,
        )
        with atomic_file(path) as partial:
            partial.write_bytes(file.getbuffer())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "FaissIndex":
        """Reads a file that `save` wrote. Faiss trusts what it reads."""
        self = cls.__new__(cls)
        with np.load(path, allow_pickle=False) as file:
            config = json.loads(str(file["config"]))
            index = _import_faiss().deserialize_index(file["index"])
            names = Identifiers(config["id_kind"], file["identifiers"])
        self._set(index, names, config["k"], config["settings"])
        return self


def _identifiers(ids: Any, count: int) -> Identifiers:
    if ids is None:
        return Identifiers("row", np.arange(count, dtype="int32"))
    return read_identifiers(ids, count)


def _import_faiss() -> ModuleType:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "`keras_moe.retrieval.FaissIndex` needs faiss. Install it with "
            "`pip install keras-moe[ann]`."
        ) from error
    return faiss
