"""Random directions for random features."""

import keras
from keras import ops

from keras_moe.ops.linear_attention._matrix_diagonal import matrix_diagonal
from keras_moe.types import Tensor
from keras_moe.validation import check_choice

PROJECTIONS = ("orthogonal", "simplex", "iid")


def random_projection(
    num_heads: int,
    num_draws: int,
    dim: int,
    kind: str = "orthogonal",
    seed: int = 0,
    draw: int | Tensor = 0,
) -> Tensor:
    """Draws rows that are standard normal, each for itself.

    Among each other they are coupled in blocks of `dim` rows, so that they
    cover the space more evenly than independent ones:

    - `"orthogonal"`: at right angles
      ([Choromanski et al., 2020](https://arxiv.org/abs/2009.14794), section
      2.4). The block is Haar distributed: the signs of a QR decomposition are
      made right, without which the mean is not zero.
    - `"simplex"`: towards the corners of a simplex, at angles of cosine
      `-1 / (dim - 1)` ([Reid et al.,
      2023](https://arxiv.org/abs/2301.13856)).
    - `"iid"`: independent.

    Stateless: equal seeds and draws give equal rows, on every replica.

    Args:
        num_heads: number of independent projections.
        num_draws: rows of each.
        dim: size of a row.
        kind: `"orthogonal"`, `"simplex"` or `"iid"`.
        seed: the seed.
        draw: which draw of this seed; it may be a tensor.

    Returns:
        float32 `(num_heads, num_draws, dim)`.

    Raises:
        ValueError: if `kind` is none of these, or a simplex has no room.

    Example:

    >>> keras_moe.ops.random_projection(2, 6, 4).shape
    TensorShape([2, 6, 4])
    """
    check_choice(PROJECTIONS, kind=kind)
    if kind == "simplex" and dim < 2:
        raise ValueError(
            "`dim` must be at least 2 for simplex projections. Received: "
            f"dim={dim}."
        )
    blocks = -(-num_draws // dim)
    # Directions and lengths come from one draw: a second draw of the same seed
    # would repeat the first.
    normal = keras.random.normal(
        (2, num_heads, blocks, dim, dim),
        dtype="float32",
        seed=_Seed(seed, draw),
    )
    rows = normal[0]
    if kind != "iid":
        rows, triangle = ops.qr(normal[0])
        diagonal = matrix_diagonal(triangle)
        rows = rows * ops.where(diagonal < 0.0, -1.0, 1.0)[..., None, :]
        if kind == "simplex":
            corners = ops.eye(dim) - 1.0 / dim
            rows = ops.matmul(corners * (dim / (dim - 1)) ** 0.5, rows)
        # Rows get the lengths of normal vectors, drawn independently of the
        # directions.
        rows = rows * ops.norm(normal[1], axis=-1, keepdims=True)
    rows = ops.reshape(rows, (num_heads, blocks * dim, dim))
    return rows[:, :num_draws]


class _Seed(keras.random.SeedGenerator):
    """A seed of two numbers, with no state that would have to be kept."""

    def __init__(self, seed: int, draw: int | Tensor):
        self._numbers = (seed, draw)

    def next(self, ordered: bool = True) -> Tensor:
        return ops.stack([ops.cast(n, "uint32") for n in self._numbers])
