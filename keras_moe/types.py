"""Names for the types in public signatures."""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

# `Tensor` and the like are `Any`: a tensor is whatever Keras's backend says.
Tensor: TypeAlias = Any
Shape: TypeAlias = tuple[int | None, ...]
InitializerLike: TypeAlias = Any
ActivationLike: TypeAlias = str | Callable[[Tensor], Tensor] | None
Config: TypeAlias = dict[str, Any]

# For each axis of a tensor the mesh axis along which it lies; None for whole.
Axes: TypeAlias = tuple[str | None, ...]
# Names of a layer's weights, as `weights.named_weights` has them, to their
# axes: see `distribution.layout_map`.
LayoutTable: TypeAlias = dict[str, Axes]
