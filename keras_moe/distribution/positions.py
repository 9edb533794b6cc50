"""Arithmetic of positions: what comes next, and when to save."""

from keras_moe.distribution.nonfinite import NonFinite
from keras_moe.distribution.position import Position


def advanced(position: Position, num_batches: int, updates: int) -> Position:
    """Returns where the training stands after as many batches and updates."""
    return position._replace(
        batch=position.batch + num_batches, step=position.step + updates
    )


def batches_to_take(
    position: Position,
    total: int | None,
    most: int,
    suspect: NonFinite | None = None,
) -> int:
    """Returns how many batches to train on in one go.

    No further than to the epoch's end, to a batch that is left out, or to one
    that is suspected.

    Args:
        position: where the training stands.
        total: batches of the epoch; `None` if it is not known.
        most: the most batches that may be taken.
        suspect: what spoilt the training.

    Example:

    >>> from keras_moe.distribution.position import Position
    >>> from keras_moe.distribution.positions import batches_to_take
    >>> batches_to_take(Position(0, 2, 2, skipped=((0, 5),)), 9, 4)
    3
    """
    epoch, batch = position[:2]
    ends = [end for at, end in position.skipped if at == epoch]
    if suspect is not None and suspect.epoch == epoch:
        ends.append(suspect.batch)
    if total is not None:
        ends.append(total)
    return min([most, *(end - batch for end in ends if end > batch)])


def passed_multiple(step: int, updates: int, every: int | None) -> bool:
    """Whether the last updates reached or passed a multiple of `every`.

    Args:
        step: updates made so far.
        updates: how many of them were made in the last go.
        every: updates from one multiple to the next; `None` for never.

    Example:

    >>> from keras_moe.distribution.positions import passed_multiple
    >>> passed_multiple(11, 4, every=10), passed_multiple(15, 4, every=10)
    (True, False)
    """
    return every is not None and step // every > (step - updates) // every


def with_skipped(
    position: Position, skipped: tuple[tuple[int, int], ...]
) -> Position:
    """Returns the position with more batches left out."""
    return position._replace(
        skipped=tuple(sorted({*position.skipped, *skipped}))
    )
