"""Edit distances and the error rates made of them, on the host.

An example may have several accepted answers, its references. A prediction is
compared with the nearest of them.
"""

from collections.abc import Hashable
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from keras_moe.validation import check_choice

Symbols = Sequence[Hashable]

MODES = ("lenient", "strict")


def edit_distance(a: Symbols, b: Symbols) -> int:
    """Counts the fewest insertions, deletions and substitutions from a to b.

    Example:
    >>> keras_moe.metrics.edit_distance(["K", "AE", "T"], ["K", "AH"])
    2

    Args:
        a: Sequence of symbols.
        b: Sequence of symbols.
    """
    return Levenshtein.distance(*number_symbols(a, b))


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

    Example:

    >>> edits, lengths = keras_moe.metrics.nearest_reference(
    ...     [["turn", "off"]], [[["turn", "on"], ["turn", "it", "off"]]]
    ... )
    >>> edits, lengths
    (array([1]), array([2]))
    """
    _check(predictions, references)
    edits = np.zeros(len(references), np.int64)
    lengths = np.zeros(len(references), np.int64)
    for row, alternatives in enumerate(references):
        prediction, *numbered = number_symbols(predictions[row], *alternatives)
        distances = [Levenshtein.distance(prediction, r) for r in numbered]
        nearest = int(np.argmin(distances))
        edits[row] = distances[nearest]
        lengths[row] = len(numbered[nearest])
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
    check_choice(MODES, mode=mode)
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
        if any(
            isinstance(symbols, str | bytes)
            for symbols in (*alternatives, predictions[row])
        ):
            raise TypeError(
                "`predictions` and `references` must hold sequences of "
                "symbols, not strings: split them first. Received: a string "
                f"in row {row}."
            )


def number_symbols(*sequences: Symbols) -> list[list[int]]:
    """Numbers the symbols of sequences: equal ones alike, others apart.

    rapidfuzz takes symbols of one hash for equal, and the character "a" for
    the number 97: -1 and -2, or "a" and 97, would count as no edit.

    Args:
        *sequences: the sequences that are to be compared.

    Returns:
        For each sequence the numbers of its symbols.
    """
    numbers: dict[Hashable, int] = {}
    return [
        [numbers.setdefault(symbol, len(numbers)) for symbol in sequence]
        for sequence in sequences
    ]
