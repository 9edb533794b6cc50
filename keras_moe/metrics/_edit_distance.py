"""Edit distances and the error rates made of them, on the host in NumPy.

An example may have several accepted answers, its references. A prediction is
compared with the nearest of them.
"""

from collections.abc import Hashable
from collections.abc import Sequence

import numpy as np

Symbols = Sequence[Hashable]

_MODES = ("lenient", "strict")


def edit_distance(a: Symbols, b: Symbols) -> int:
    """Counts the fewest insertions, deletions and substitutions from a to b.

    Example:
    >>> keras_moe.metrics.edit_distance(["K", "AE", "T"], ["K", "AH"])
    2

    Args:
        a: Sequence of symbols.
        b: Sequence of symbols.
    """
    return int(_edit_distances([a], [b])[0])


def nearest_reference(
    predictions: Sequence[Symbols],
    references: Sequence[Sequence[Symbols]],
) -> tuple[np.ndarray, np.ndarray]:
    """Compares each prediction with the nearest of its alternatives.

    Args:
        predictions: One sequence of symbols per row.
        references: One or more alternatives per row.

    Returns:
        `(edits, lengths)`, int64 arrays `(rows,)`: the edits to the nearest
        alternative and that alternative's length. Of equally near ones the
        first listed counts.
    """
    _check(predictions, references)
    counts = [len(alternatives) for alternatives in references]
    distances = _edit_distances(
        [p for p, n in zip(predictions, counts, strict=True) for _ in range(n)],
        [r for alternatives in references for r in alternatives],
    )
    edits = np.zeros(len(counts), np.int64)
    lengths = np.zeros(len(counts), np.int64)
    start = 0
    for row, count in enumerate(counts):
        nearest = int(np.argmin(distances[start : start + count]))
        edits[row] = distances[start + nearest]
        lengths[row] = len(references[row][nearest])
        start += count
    return edits, lengths


def symbol_error_rate(
    predictions: Sequence[Symbols],
    references: Sequence[Sequence[Symbols]],
) -> float:
    """Returns the edits to the nearest references over their total length.

    Of words this is known as the word error rate, of letters as the character
    error rate, of phonemes as the phoneme error rate.

    Example:
    >>> keras_moe.metrics.symbol_error_rate(
    ...     [["turn", "the", "lights", "off"]],
    ...     [[["turn", "lights", "on"], ["turn", "the", "lights", "on"]]],
    ... )
    0.25

    Args:
        predictions: One sequence of symbols per row.
        references: One or more alternatives per row.

    Returns:
        The rate, which exceeds 1 where predictions are far too long.

    Raises:
        ValueError: If the numbers of rows differ, a row has no reference, or
            no reference has a symbol.
        TypeError: If a sequence is a string: split it into symbols first.
    """
    edits, lengths = nearest_reference(predictions, references)
    if not lengths.sum():
        raise ValueError(
            "`references` must hold at least one symbol. "
            f"Received: {len(references)} references without any."
        )
    return float(edits.sum() / lengths.sum())


def sequence_error_rate(
    predictions: Sequence[Symbols],
    references: Sequence[Sequence[Symbols]],
    mode: str = "lenient",
) -> float:
    """Returns the share of sequences that are not wholly right.

    Example:
    >>> keras_moe.metrics.sequence_error_rate(
    ...     [["B"], ["C"]], [[["A"], ["B"]], [["A"], ["B"]]]
    ... )
    0.5

    Args:
        predictions: One sequence of symbols per row.
        references: One or more alternatives per row.
        mode: `"lenient"`: any alternative will do; `"strict"`: only the first
            one.

    Raises:
        ValueError: If the numbers of rows differ, there is no row, a row has
            no reference, or `mode` is another.
        TypeError: If a sequence is a string: split it into symbols first.
    """
    if mode not in _MODES:
        raise ValueError(
            f"`mode` must be one of {_MODES}. Received: mode={mode!r}"
        )
    _check(predictions, references)
    if not len(references):
        raise ValueError("`references` must not be empty. Received: []")
    wrong = 0
    for prediction, alternatives in zip(predictions, references, strict=True):
        accepted = alternatives if mode == "lenient" else alternatives[:1]
        wrong += list(prediction) not in [list(r) for r in accepted]
    return wrong / len(references)


def _check(
    predictions: Sequence[Symbols],
    references: Sequence[Sequence[Symbols]],
) -> None:
    if len(predictions) != len(references):
        raise ValueError(
            "`predictions` and `references` must have as many rows. "
            f"Received: {len(predictions)} predictions and {len(references)} "
            "references."
        )
    for row, alternatives in enumerate(references):
        if not len(alternatives):
            raise ValueError(
                "`references` must list at least one alternative per row. "
                f"Received: none in row {row}."
            )
        # A string is a sequence too: its letters would be compared, silently.
        if any(isinstance(s, str) for s in (*alternatives, predictions[row])):
            raise TypeError(
                "`predictions` and `references` must hold sequences of "
                "symbols, not strings: split them first. Received: a string "
                f"in row {row}."
            )


def _edit_distances(a: Sequence[Symbols], b: Sequence[Symbols]) -> np.ndarray:
    """Computes the distances of many pairs at once, row by row of the table.

    The inner loop of the textbook (over b) is a running minimum, so one pass
    over the positions of `a` does all pairs.
    """
    ids: dict[Hashable, int] = {}
    left, left_length = _pad(a, ids)
    right, right_length = _pad(b, ids)
    positions = np.arange(right.shape[1] + 1)
    pairs = np.arange(len(a))
    # row[n, j]: the distance of the first i symbols of a to the first j of b.
    row = np.tile(positions, (len(a), 1))
    distances = right_length.copy()  # where a is empty
    for i in range(left.shape[1]):
        substituted = row[:, :-1] + (left[:, i : i + 1] != right)
        deleted = row + 1
        best = deleted
        np.minimum(deleted[:, 1:], substituted, out=best[:, 1:])
        # Insertions: min over k <= j of best[k] + (j - k).
        row = np.minimum.accumulate(best - positions, axis=1) + positions
        here = left_length == i + 1
        distances[here] = row[pairs[here], right_length[here]]
    return distances


def _pad(
    sequences: Sequence[Symbols], ids: dict[Hashable, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Turns sequences into ids `(rows, longest)` and lengths `(rows,)`."""
    lengths = np.array([len(s) for s in sequences], np.int64)
    # Padding needs no id of its own: what lies beyond a length is never read.
    padded = np.zeros((len(sequences), int(lengths.max(initial=0))), np.int64)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = [
            ids.setdefault(symbol, len(ids)) for symbol in sequence
        ]
    return padded, lengths
