"""Which of a teacher's blocks each block of a student comes from."""

import numbers
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

_STACKS = ("encoder", "decoder")


def choose_blocks(
    teacher: keras.Model,
    student: keras.Model,
    layers: Mapping[str, Sequence[int]] | None,
) -> dict[str, tuple[int, ...]]:
    """Returns the teacher's block for each of the student's.

    Args:
        teacher: a model, with `encoder.blocks` and `decoder.blocks` or without.
        student: likewise.
        layers: `"encoder"` and `"decoder"` to numbers of blocks, counted from
            1. A stack that is not in it has its blocks spread evenly.

    Returns:
        Stack to numbers of the teacher's blocks, counted from 1; empty for
        models without.

    Raises:
        ValueError: if `layers` is not of this kind, or the teacher has not so
            many blocks.
    """
    if layers is not None and not (
        isinstance(layers, Mapping)
        and all(_are_numbers(chosen) for chosen in layers.values())
    ):
        raise ValueError(
            "`layers` must be a dictionary of stacks to numbers of "
            f"layers. Received: layers={layers!r}."
        )
    blocks: dict[str, tuple[int, ...]] = {}
    for stack in _STACKS:
        if not hasattr(getattr(student, stack, None), "blocks"):
            continue
        ours = len(getattr(student, stack).blocks)
        theirs = len(getattr(getattr(teacher, stack, None), "blocks", ()))
        chosen = (layers or {}).get(stack)
        if chosen is None and ours > theirs:
            raise ValueError(
                "The teacher must have a layer for each of the student's. "
                f"Received: {theirs} {stack} layers of the teacher, "
                f"{ours} of the student. `layers` may use one twice."
            )
        if chosen is None:
            chosen = evenly_spaced(ours, theirs)
        if len(chosen) != ours or not all(
            1 <= layer <= theirs for layer in chosen
        ):
            raise ValueError(
                f"The student's {ours} {stack} layers need one of the "
                f"teacher's, from 1 to {theirs}, each. Received: "
                f"{list(chosen)}."
            )
        blocks[stack] = tuple(chosen)
    unknown = sorted(set(layers or {}) - set(blocks))
    if unknown:
        raise ValueError(
            f"`layers` must be of {sorted(blocks)}. Received: {unknown}."
        )
    return blocks


def evenly_spaced(number: int, layers: int) -> tuple[int, ...]:
    """Returns `number` layers, counted from 1, spread evenly over `layers`.

    The first and the last are among them; of more than there are, none.

    Example: `evenly_spaced(3, 8)` is `(1, 4, 8)`.
    """
    if number > layers:
        return ()
    if number == 1:
        return (layers,)
    return tuple(
        1 + (index * (layers - 1)) // (number - 1) for index in range(number)
    )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, Sequence) and all(
        isinstance(value, numbers.Integral) for value in values
    )
