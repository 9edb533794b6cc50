"""Where the value of a weight comes from."""

import dataclasses
from collections.abc import Iterator
from collections.abc import Mapping

import numpy as np

from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor
from keras_moe.conversion.checkpoints._stored_tensor import row_ranges


@dataclasses.dataclass(frozen=True)
class Origin:
    """Which tensors of a checkpoint a weight is made of.

    Attributes:
        names: one tensor, or one for each expert, to be stacked.
        transposed: whether axes are exchanged: PyTorch's kernels are
            `(outputs, inputs)`.
        stacked: whether the weight has an axis of experts that its tensors
            lack.
        scale: a factor of the values.
    """

    names: tuple[str, ...]
    transposed: bool = False
    stacked: bool = False
    scale: float = 1.0

    def shape(self, tensors: Mapping[str, StoredTensor]) -> tuple[int, ...]:
        """Returns the shape of the weight that the tensors make."""
        shape = tensors[self.names[0]].shape
        shape = shape[::-1] if self.transposed else shape
        return (len(self.names), *shape) if self.stacked else shape

    def chunks(
        self, tensors: Mapping[str, StoredTensor]
    ) -> Iterator[np.ndarray]:
        """Yields the rows of the weight in order, some at a time.

        All experts at once would take the memory of their bank once more.
        """
        for name in self.names:
            for chunk in self._parts(tensors[name]):
                if self.scale != 1.0:
                    # In half precision the product would be rounded once more.
                    chunk = chunk.astype("float32") * np.float32(self.scale)
                yield chunk

    def _parts(self, tensor: StoredTensor) -> Iterator[np.ndarray]:
        if self.stacked:
            whole = slice(0, tensor.shape[0])
            yield (tensor.turned() if self.transposed else tensor.read(whole))[
                np.newaxis
            ]
        elif self.transposed:
            values = tensor.turned()
            for rows in row_ranges(values.shape, values.dtype):
                yield values[rows]
        else:
            yield from tensor.chunks()
