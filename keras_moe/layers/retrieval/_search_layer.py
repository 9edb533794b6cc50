"""A layer that answers queries with the best of its candidates."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_moe.backend import value_now
from keras_moe.layers.retrieval._candidate_layer import CandidateLayer
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_size


class SearchLayer(CandidateLayer):
    """Base of layers that search: they say how in `find`.

    Args:
        k: as of `Retrieval`, and so are the others.
        return_scores: as well.
        capacity: as well.
        **kwargs: of `CandidateLayer`, but for `min_candidates`.
    """

    def __init__(
        self,
        k: int,
        return_scores: bool,
        capacity: int | None,
        **kwargs,
    ):
        check_size(k=k, capacity=capacity)
        if capacity is not None and capacity < k:
            raise ValueError(
                "`capacity` must be at least k. Received: capacity="
                f"{capacity}, k={k}."
            )
        super().__init__(min_candidates=k, capacity=capacity, **kwargs)
        self.k = k
        self.return_scores = return_scores
        self.supports_masking = True

    def find(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns float32 scores and int32 rows, both `[..., k]`.

        NaN and -1 for queries not finite; minus infinity and -1 where there
        are no more.
        """
        raise NotImplementedError

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
        if value_now(ops.equal(self.num_candidates, 0)):
            raise ValueError(
                "The layer must have candidates: load its weights, or call "
                f"`update_candidates`. Received: {self.name!r} without."
            )
        scores, rows = self.find(inputs, most)
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
        }
