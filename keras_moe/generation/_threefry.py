"""Random numbers without state, as a function of key and counter."""

from keras import ops

from keras_moe.types import Tensor

# Rotations of eight successive rounds, which repeat.
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def threefry(
    key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns 64 random bits for each key and counter: Threefry-2x32-20.

    A bijection of the counter for each key, without state: the same bits on
    every backend, in a graph or out of it, compiled or not.

    Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (SC11),
    section 4.2.

    Args:
        key: two integers or uint32 tensors.
        counter: two more; all four are broadcast.

    Returns:
        Two uint32 tensors.
    """
    first, second = (ops.convert_to_tensor(word, "uint32") for word in key)
    a, b = (ops.convert_to_tensor(word, "uint32") for word in counter)
    third = ops.bitwise_xor(ops.bitwise_xor(first, second), _word(_PARITY))
    keys = (first, second, third)
    a, b = a + first, b + second
    for turn in range(1, 6):
        for step in range(4):
            a = a + b
            b = ops.bitwise_xor(
                a, _rotate(b, _ROTATIONS[(turn - 1) % 2 * 4 + step])
            )
        a = a + keys[turn % 3]
        b = b + keys[(turn + 1) % 3] + _word(turn)
    return a, b


def row_uniforms(seed: int, position: Tensor, num_rows: int | Tensor) -> Tensor:
    """Returns a number in [0, 1) for each row, a multiple of 2**-24.

    A number depends on the seed, the position and the row's place alone, not on
    how many rows there are.

    Args:
        seed: an integer in [0, 2**32).
        position: int32 scalar, not negative.
        num_rows: number of rows.

    Returns:
        float32 `(num_rows,)`.
    """
    row = ops.cast(ops.arange(num_rows, dtype="int32"), "uint32")
    bits, _ = threefry((seed, ops.cast(position, "uint32")), (row, 0))
    # A float32 holds 24 bits exactly; more could be rounded up to 1.
    return ops.cast(ops.bitwise_right_shift(bits, 8), "float32") * 2.0**-24


def _word(value: int) -> Tensor:
    return ops.convert_to_tensor(value, "uint32")


def _rotate(word: Tensor, count: int) -> Tensor:
    return ops.bitwise_or(
        ops.bitwise_left_shift(word, count),
        ops.bitwise_right_shift(word, 32 - count),
    )
