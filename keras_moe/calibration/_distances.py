"""Distances between sequences, from 0 (equal) to 1 (nothing in common).

A sequence is one of hashable symbols: letters, words, token ids. Texts must
be split first. Where several references are given, the nearest counts.
"""

import collections
from collections.abc import Callable
from typing import TypeAlias

from rapidfuzz.distance import LCSseq

from keras_moe.metrics._edit_distance import Symbols
from keras_moe.metrics._edit_distance import nearest_reference
from keras_moe.metrics._edit_distance import number_symbols

# A distance takes a prediction and one reference or more.
Distance: TypeAlias = Callable[..., float]


def edit_distance_error(prediction: Symbols, *references: Symbols) -> float:
    """Returns the edits to the nearest reference over its length, at most 1.

    `keras_moe.metrics.symbol_error_rate` of a single row. That rate may exceed
    1, where a prediction is far too long; a loss may not.

    Args:
        prediction: sequence of symbols.
        *references: one or more alternatives. Nearest is the one with the
            fewest edits; of equally near ones the first counts.

    Returns:
        In [0, 1]; 0 for two empty sequences.

    Raises:
        ValueError: if there is no reference.
        TypeError: if a sequence is a string.

    Example:

    >>> keras_moe.calibration.edit_distance_error(
    ...     ["K", "AE", "T"], ["K", "AH", "T", "S"], ["K", "AH", "T", "AH"]
    ... )
    0.5
    """
    _check(prediction, references)
    edits, lengths = nearest_reference([prediction], [references])
    if not edits[0]:
        return 0.0
    return float(min(edits[0] / lengths[0], 1.0)) if lengths[0] else 1.0


def token_f1_distance(prediction: Symbols, *references: Symbols) -> float:
    """Returns 1 minus the F1 of the symbols, whatever their order.

    F1 is twice the number of shared symbols, each as often as both hold it,
    over the number of symbols in both. Nothing is normalised: lower-casing,
    or leaving out articles as SQuAD does, is up to the caller.

    Args:
        prediction: sequence of symbols.
        *references: one or more alternatives.

    Returns:
        In [0, 1]; 0 for two empty sequences.

    Raises:
        ValueError: if there is no reference.
        TypeError: if a sequence is a string.

    Example:

    >>> keras_moe.calibration.token_f1_distance(["a", "b"], ["b", "c"])
    0.5
    """
    _check(prediction, references)
    counts = collections.Counter(prediction)
    return min(
        _one_minus_f1((counts & collections.Counter(r)).total(), prediction, r)
        for r in references
    )


def rouge_l_distance(prediction: Symbols, *references: Symbols) -> float:
    """Returns 1 minus ROUGE-L, the F1 of the longest common subsequence.

    Twice the length of the longest common subsequence over the number of
    symbols in both: precision and recall weigh the same.

    Source: Lin, 2004, "ROUGE: A Package for Automatic Evaluation of
    Summaries", section 3.1, with beta = 1.

    Args:
        prediction: sequence of symbols.
        *references: one or more alternatives.

    Returns:
        In [0, 1]; 0 for two empty sequences.

    Raises:
        ValueError: if there is no reference.
        TypeError: if a sequence is a string.

    Example:

    >>> keras_moe.calibration.rouge_l_distance(
    ...     ["a", "b", "c"], ["b", "c", "a", "d", "e"]
    ... )
    0.5
    """
    _check(prediction, references)
    return min(
        _one_minus_f1(
            LCSseq.similarity(*number_symbols(prediction, r)), prediction, r
        )
        for r in references
    )


def _one_minus_f1(shared: int, a: Symbols, b: Symbols) -> float:
    total = len(a) + len(b)
    # A single division of integers, so that equal sequences are at exactly 0.
    return (total - 2 * shared) / total if total else 0.0


def _check(prediction: Symbols, references: tuple[Symbols, ...]) -> None:
    if not references:
        raise ValueError("`references` must hold one at least. Received: none.")
    # A string is a sequence, too: it would silently be compared letter by
    # letter.
    for sequence in (prediction, *references):
        if isinstance(sequence, str | bytes):
            raise TypeError(
                "`prediction` and `references` must be sequences of symbols, "
                f"not strings: split them first. Received: {sequence!r}."
            )
