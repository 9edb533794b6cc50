"""Rotary position embeddings."""

from keras import ops

from keras_moe.types import Tensor


def rotary_embedding(
    x: Tensor, positions: Tensor, max_wavelength: float = 10000.0
) -> Tensor:
    """Turns pairs of dimensions by angles proportional to the position.

    The product of a query and a key then depends on their distance alone, and
    lengths do not change.

    Source: [Su et al., 2021](https://arxiv.org/abs/2104.09864), section 3.2;
    dimension `i` is paired with `i + dim / 2`.

    Args:
        x: `[..., t, dim]`, with an even `dim`.
        positions: int `[t]`, or `[..., t]`.
        max_wavelength: positions until the slowest pair has nearly turned once.

    Returns:
        `[..., t, dim]` of the dtype of `x`; angles are float32.

    Raises:
        ValueError: if `dim` is odd.

    Example:

    >>> x = np.ones((1, 3, 4), "float32")
    >>> keras_moe.ops.rotary_embedding(x, np.arange(3)).shape
    TensorShape([1, 3, 4])
    """
    dim = x.shape[-1]
    if dim % 2:
        raise ValueError(
            "Rotary embeddings need an even size. Received: "
            f"x.shape={tuple(x.shape)}."
        )
    half = dim // 2
    exponents = ops.arange(half, dtype="float32") / half
    positions = ops.cast(positions, "float32")
    angles = ops.expand_dims(positions, -1) * max_wavelength**-exponents
    cosine = ops.cast(ops.cos(angles), x.dtype)
    sine = ops.cast(ops.sin(angles), x.dtype)
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine],
        axis=-1,
    )
