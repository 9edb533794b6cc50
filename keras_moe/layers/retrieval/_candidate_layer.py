"""Candidates and their names as weights of a layer."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.backend import gather_rows
from keras_moe.backend import join_bytes
from keras_moe.layers.retrieval._candidate_rows import STORAGES
from keras_moe.layers.retrieval._candidate_rows import quantize_rows
from keras_moe.layers.retrieval._candidate_rows import read_rows
from keras_moe.layers.retrieval._find_best import ROWS_AXIS
from keras_moe.layers.retrieval._identifiers import KINDS
from keras_moe.layers.retrieval._identifiers import Identifiers
from keras_moe.layers.retrieval._identifiers import read_identifiers
from keras_moe.layers.retrieval._identifiers import widened
from keras_moe.types import Config
from keras_moe.types import LayoutTable
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_size


class CandidateLayer(keras.layers.Layer):
    """Base of layers that hold candidates: `Retrieval` says what of each.

    Sizes are in the config and numbers in the weights, so that a layer made
    from a config has room for what is loaded next.

    Args:
        min_candidates: fewer are refused.
        reordered: whether candidates are kept in another order than given.
        storage: as of `Retrieval`, and so are the others.
        capacity: as well.
        dim: as well.
        id_kind: as well.
        id_width: as well.
    """

    LAYOUT: LayoutTable = {
        "candidates?": (ROWS_AXIS, None),
        "scales?": (ROWS_AXIS,),
    }

    def __init__(
        self,
        min_candidates: int,
        reordered: bool,
        storage: str,
        capacity: int | None,
        dim: int | None,
        id_kind: str | None,
        id_width: int | None,
        **kwargs,
    ):
        # Queries are read in float32 under every policy: `finite_or_nan`.
        super().__init__(autocast=False, **kwargs)
        check_size(capacity=capacity, dim=dim, id_width=id_width)
        check_choice(STORAGES, storage=storage)
        if id_kind is not None:
            check_choice(KINDS, id_kind=id_kind)
        if id_kind == "string" and id_width is None:
            raise ValueError(
                "`id_width` must be given for strings that come later. "
                "Received: id_width=None."
            )
        self.min_candidates = min_candidates
        self.reordered = reordered
        self.storage = storage
        self.capacity: Any = capacity
        self.dim: Any = dim
        self.id_kind = id_kind
        self.id_width = id_width
        self.candidates: Any = None
        self.scales: Any = None
        self.identifiers: Any = None
        self.num_candidates: Any = None

    def _fill(self, candidate_embeddings: Any, candidate_ids: Any) -> None:
        """Makes the weights, where sizes are known: ends a constructor."""
        if candidate_embeddings is not None:
            self.update_candidates(candidate_embeddings, candidate_ids)
        elif candidate_ids is not None:
            raise ValueError(
                "`candidate_ids` must be given with `candidate_embeddings`. "
                "Received: candidate_embeddings=None."
            )
        elif None not in (self.capacity, self.dim, self.id_kind):
            self._add_weights()

    def update_candidates(
        self, candidate_embeddings: Any, candidate_ids: Any = None
    ) -> None:
        """Puts other candidates into the layer.

        Compiled and traced functions see them, as they see any weight; a call
        in another thread may meanwhile meet rows of both. Nothing is changed
        where an error is raised.

        Args:
            candidate_embeddings: `[candidates, dim]`, at most `capacity`.
            candidate_ids: of the same kind as before.

        Raises:
            ValueError: if embeddings are not finite, identifiers repeat, there
                are fewer candidates than `k`, or they do not fit.
        """
        rows = read_rows(candidate_embeddings)
        if candidate_ids is None:
            names = Identifiers("row", np.arange(len(rows), dtype="int32"))
        else:
            names = read_identifiers(candidate_ids, len(rows))
        self._check_room(rows, names)
        arrangement = self._arrange(rows)
        if self.num_candidates is None:
            self.capacity = self.capacity or len(rows)
            self.dim, self.id_kind = rows.shape[1], names.kind
            self.id_width = self.id_width or names.width
            self._add_weights()
        self._write(rows, names.array, arrangement)

    def _arrange(self, rows: np.ndarray) -> Any:
        """Decides in which order rows are kept; `None` for the one given.

        Whatever it raises is raised before anything is changed.
        """
        return None

    def _check_room(self, rows: np.ndarray, names: Identifiers) -> None:
        count, dim = rows.shape
        if not self.min_candidates <= count <= (self.capacity or count):
            most = f" and at most {self.capacity}" if self.capacity else ""
            raise ValueError(
                f"There must be at least k={self.min_candidates} candidates"
                f"{most}. Received: {count}."
            )
        if dim != (self.dim or dim):
            raise ValueError(
                f"`candidate_embeddings` must have the size {self.dim}. "
                f"Received: shape={rows.shape}."
            )
        if names.kind != (self.id_kind or names.kind):
            raise ValueError(
                f"`candidate_ids` must be of the kind {self.id_kind!r}, as "
                f"before. Received: the kind {names.kind!r}."
            )
        if (names.width or 0) > (self.id_width or names.width or 0):
            raise ValueError(
                f"`candidate_ids` must have at most id_width={self.id_width} "
                f"bytes. Received: one of {names.width} bytes."
            )
        if _integer_dtype() == "int32" and names.kind == "integer":
            if np.abs(names.array).max() >= 2**31:
                raise ValueError(
                    "`candidate_ids` must be integers of 32 bits on this "
                    f"backend. Received: {np.abs(names.array).max()}."
                )

    def _add_weights(self) -> None:
        self.candidates = self._state(
            "candidates", (self.capacity, self.dim), self.storage
        )
        if self.storage == "int8":
            self.scales = self._state("scales", (self.capacity,), "float32")
        if self.id_kind == "string":
            shape, dtype = (self.capacity, self.id_width), "uint8"
            self.identifiers = self._state("identifiers", shape, dtype)
            self.supports_jit = False
        elif self.id_kind == "integer" or self.reordered:
            dtype = self.id_dtype
            self.identifiers = self._state(
                "identifiers", (self.capacity,), dtype
            )
        self.num_candidates = self._state("num_candidates", (), "int32")

    def _state(self, name: str, shape: Shape, dtype: str) -> keras.Variable:
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            trainable=False,
            autocast=False,
        )

    def _write(
        self, rows: np.ndarray, names: np.ndarray, arrangement: Any
    ) -> None:
        if arrangement is not None:
            rows, names = rows[arrangement], names[arrangement]
        if self.scales is not None:
            rows, scales = quantize_rows(rows)
            self.scales.assign(self._filled(scales))
        self.candidates.assign(
            ops.cast(self._filled(rows), self.candidates.dtype)
        )
        if self.identifiers is not None:
            if self.id_kind == "string":
                names = widened(names, self.identifiers.shape[1])
            self.identifiers.assign(
                self._filled(names).astype(self.identifiers.dtype)
            )
        self.num_candidates.assign(len(rows))

    def _filled(self, array: np.ndarray) -> np.ndarray:
        """Fills up with zeros to the capacity."""
        return filled(array, self.candidates.shape[0])

    def score(self, queries: Tensor) -> Tensor:
        """Returns float32 `[..., capacity]`; NaN for queries not finite."""
        queries = finite_or_nan(queries)
        rows = ops.cast(self.candidates, "float32")
        scores = ops.matmul(queries, ops.transpose(rows))
        return scores if self.scales is None else scores * self.scales

    def names_of(self, rows: Tensor) -> Tensor:
        """Returns what the candidates in rows are called; -1 is no row."""
        if self.identifiers is None:
            return rows
        names = gather_rows(self.identifiers, ops.maximum(rows, 0))
        none = rows < 0
        if self.id_kind == "string":
            none = ops.expand_dims(none, -1)
            return join_bytes(ops.where(none, ops.cast(0, "uint8"), names))
        return ops.where(none, ops.cast(-1, names.dtype), names)

    @property
    def id_dtype(self) -> str:
        """Dtype of what answers consist of."""
        kinds = {"row": "int32", "string": "string"}
        return kinds.get(self.id_kind or "row", _integer_dtype())

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "storage": self.storage,
            "capacity": self.capacity,
            "dim": self.dim,
            "id_kind": self.id_kind,
            "id_width": self.id_width,
        }


def finite_or_nan(queries: Tensor) -> Tensor:
    """Returns float32 queries, all NaN where a part is not finite."""
    queries = ops.cast(queries, "float32")
    finite = ops.all(ops.isfinite(queries), axis=-1, keepdims=True)
    return ops.where(finite, queries, np.nan)


def filled(array: np.ndarray, size: int) -> np.ndarray:
    """Returns an array whose first axis is filled up with zeros."""
    missing = size - len(array)
    return np.pad(array, ((0, missing), *((0, 0),) * (array.ndim - 1)))


def _integer_dtype() -> str:
    return "int32" if keras.backend.backend() == "jax" else "int64"
