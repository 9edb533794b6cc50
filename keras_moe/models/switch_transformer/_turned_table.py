"""A table of embeddings as the kernels of a decoding loop's head."""

import keras
from keras import ops

from keras_moe.backend import accelerator
from keras_moe.backend import is_halved
from keras_moe.backend import shapes_must_be_static
from keras_moe.types import Tensor

# Steps after which the turning has paid, even for one row.
_ENOUGH_STEPS = 16


def turned_table(
    table: keras.layers.Embedding, num_steps: int
) -> tuple[Tensor, ...]:
    """Returns the kernels by which a tied head multiplies at each step.

    A head that is a table multiplies by its transpose. On a CPU that product
    takes, for the few rows of a step, up to three times as long as with a
    kernel that lies the right way: 14 ms instead of 4.4 for 8 rows, dimension
    768 and 32,128 words. To turn the table takes 20 ms, once; where operations
    run side by side its halves are turned, and multiplied by, at once.

    Args:
        table: the embedding, built.
        num_steps: how many steps there may be.

    Returns:
        Kernels `(model_dim, words)`, one after the other of all words; nothing
        where the table does as it is: quantised, for few steps, on
        accelerators, and under XLA, which lays kernels out by itself.
    """
    if (
        num_steps < _ENOUGH_STEPS
        or table.quantization_mode is not None
        or shapes_must_be_static()
        or accelerator() != "CPU"
    ):
        return ()
    words = ops.cast(table.embeddings, table.compute_dtype)
    parts = ops.split(words, 2) if is_halved(words) else [words]
    return tuple(ops.transpose(part) for part in parts)


def logits_of_turned(rows: Tensor, kernels: tuple[Tensor, ...]) -> Tensor:
    """Returns the logits of rows `(n, model_dim)` by a turned table."""
    logits = [ops.matmul(rows, kernel) for kernel in kernels]
    return logits[0] if len(logits) == 1 else ops.concatenate(logits, axis=-1)
