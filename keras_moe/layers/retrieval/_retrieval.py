"""A search that is part of the model: saved, exported and served with it."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.backend import value_now
from keras_moe.layers.retrieval._candidate_layer import CandidateLayer
from keras_moe.layers.retrieval._find_best import find_best
from keras_moe.ops.top_k._choose_bins import Bins
from keras_moe.ops.top_k._choose_bins import choose_bins
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size


@register
class Retrieval(CandidateLayer):
    """Returns the `k` candidates whose dot products with a query are greatest.

    Candidates and identifiers, strings as well, are weights: checkpoints,
    `.keras` files and SavedModels hold them, once, and a stock TensorFlow
    Serving answers. Arguments and results are those of `keras_rs.layers.
    BruteForceRetrieval`, whose candidates a saved model loses.

    Scores are computed and ranked in float32 under every dtype policy; equal
    ones come in the order of the candidates. A query that is not finite is
    answered with NaN and -1 (or an empty string), other queries of its batch as
    ever. Strings keep XLA off: TensorFlow compiles none.

    On a mesh rows lie along `"model"`; each device searches its own.

    Args:
        candidate_embeddings: `[candidates, dim]`; `None` where
            `update_candidates` will give them.
        candidate_ids: an integer or a string for each, all different; `None`
            for answers that are numbers of rows.
        k: how many to return; a call may ask for fewer.
        return_scores: whether scores are returned, too.
        recall_target: `None` for an exact search. A share in (0, 1] makes it
            approximate: `keras_moe.ops.partial_reduce_top_k` with the fewest
            bins whose expected recall is at least that. Candidates are then
            kept in a random order, which the expectation asks for (and equal
            scores come in that order). Meant for accelerators, where nobody
            has timed it yet; slower on a CPU.
        storage: `"float32"`, `"bfloat16"`, or `"int8"` with a scale for each
            row. A recall target does not count what rounding costs.
        capacity: number of candidates that there is room for; by default as
            many as are given first. On a mesh a multiple of its devices.
        dim: size of embeddings; needed only without candidates.
        id_kind: `"row"`, `"integer"` or `"string"`; as `dim`.
        id_width: bytes of the longest string that there is room for; by
            default the longest given first.

    Input shape:
        `(..., dim)`.

    Output shape:
        Scores `(..., k)` of the layer's compute dtype, the greatest first, and
        identifiers `(..., k)`: int32 numbers of rows, int64 (int32 on JAX), or
        strings.

    Raises:
        ValueError: if an argument is out of its range; if embeddings are not
            finite, identifiers repeat, or there are fewer candidates than `k`;
            if the layer is called without candidates, or with queries of
            another size.

    Example:

    >>> cities = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> names = ["Oslo", "Rome", "Bern"]
    >>> layer = keras_moe.layers.Retrieval(cities, names, k=2)
    >>> model = keras.Sequential([keras.Input([2]), layer])
    >>> model.save(directory + ".keras")
    >>> loaded = keras.models.load_model(directory + ".keras")
    >>> scores, names = loaded(np.array([[0.0, 1.0]]))
    >>> print(np.array(scores), np.array(names))
    [[1.  0.8]] [[b'Rome' b'Bern']]
    """

    def __init__(
        self,
        candidate_embeddings: Any = None,
        candidate_ids: Any = None,
        k: int = 10,
        return_scores: bool = True,
        recall_target: float | None = None,
        storage: str = "float32",
        capacity: int | None = None,
        dim: int | None = None,
        id_kind: str | None = None,
        id_width: int | None = None,
        **kwargs,
    ):
        check_size(k=k, capacity=capacity)
        if recall_target is not None and not 0.0 < recall_target <= 1.0:
            raise ValueError(
                "`recall_target` must be in (0, 1], or None for an exact "
                f"search. Received: recall_target={recall_target}."
            )
        if capacity is not None and capacity < k:
            raise ValueError(
                "`capacity` must be at least k. Received: capacity="
                f"{capacity}, k={k}."
            )
        if candidate_embeddings is None and candidate_ids is not None:
            raise ValueError(
                "`candidate_ids` must be given with `candidate_embeddings`. "
                "Received: candidate_embeddings=None."
            )
        super().__init__(
            min_candidates=k,
            mixed=recall_target is not None,
            storage=storage,
            capacity=capacity,
            dim=dim,
            id_kind=id_kind,
            id_width=id_width,
            **kwargs,
        )
        self.k = k
        self.return_scores = return_scores
        self.recall_target = recall_target
        self.supports_masking = True
        if candidate_embeddings is not None:
            self.update_candidates(candidate_embeddings, candidate_ids)

    # === Search ===

    def build(self, input_shape: Shape) -> None:
        if self.num_candidates is None:
            raise ValueError(
                "The layer must have candidates before it is called: give "
                "`candidate_embeddings`, or call `update_candidates`. "
                f"Received: {self.name!r} without."
            )
        if input_shape[-1] != self.dim:
            raise ValueError(
                f"Queries must have the size of candidates, {self.dim}. "
                f"Received: input_shape={tuple(input_shape)}."
            )

    def call(
        self, inputs: Tensor, k: int | Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        if inputs.shape[-1] != self.dim:
            raise ValueError(
                f"Queries must have the size of candidates, {self.dim}. "
                f"Received: a shape of {tuple(inputs.shape)}."
            )
        most, k = self._read_k(k)
        mask = ops.arange(self.capacity, dtype="int32") < self.num_candidates
        some = value_now(mask[0])
        if some is not None and not some:
            raise ValueError(
                "The layer must have candidates: load its weights, or call "
                f"`update_candidates`. Received: {self.name!r} without."
            )
        scores, rows = find_best(self.score(inputs), most, self.bins, mask)
        if k is not None:
            scores, rows = scores[..., :k], rows[..., :k]
        names = self.names_of(rows)
        if not self.return_scores:
            return names
        return ops.cast(scores, self.compute_dtype), names

    def _read_k(self, k: int | Tensor | None) -> tuple[int, Tensor | None]:
        """Returns how many to look for, and how many of them to return."""
        if k is None:
            return self.k, None
        value = k if isinstance(k, int | np.integer) else value_now(k)
        if value is None:
            # In a graph nothing can be raised: the shape shows what is lacking.
            return self.k, ops.clip(ops.cast(k, "int32"), 0, self.k)
        if np.shape(value) != () or not 1 <= value <= self.k:
            raise ValueError(
                f"`k` must be one integer from 1 to the layer's {self.k}. "
                f"Received: k={value}."
            )
        return int(value), None

    # === What the layer is ===

    @property
    def bins(self) -> Bins | None:
        """How the search reduces; `None` if it is exact, or has no size yet."""
        if self.recall_target is None or self.capacity is None:
            return None
        return _chosen_bins(self.capacity, self.k, self.recall_target)

    @property
    def expected_recall(self) -> float:
        """Share of the best that a search finds, on average; 1 if exact."""
        bins = self.bins
        return 1.0 if bins is None else bins.expected_recall

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        return (mask, mask) if self.return_scores else mask

    def compute_output_shape(
        self, input_shape: Shape
    ) -> Shape | tuple[Shape, Shape]:
        shape = (*input_shape[:-1], self.k)
        return (shape, shape) if self.return_scores else shape

    def compute_output_spec(
        self, inputs: Tensor, k: int | Tensor | None = None
    ) -> Any:
        most, some = self._read_k(k)
        shape = (*inputs.shape[:-1], most if some is None else None)
        names = keras.KerasTensor(shape, self.id_dtype)
        if not self.return_scores:
            return names
        return keras.KerasTensor(shape, self.compute_dtype), names

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "k": self.k,
            "return_scores": self.return_scores,
            "recall_target": self.recall_target,
        }


@functools.cache
def _chosen_bins(capacity: int, k: int, recall_target: float) -> Bins:
    return choose_bins(capacity, k, recall_target)
