"""Losses of answers given early, held against those given in full."""

from collections.abc import Sequence

import numpy as np

from keras_moe.calibration._distances import Distance
from keras_moe.metrics._edit_distance import Symbols


def textual_consistency(
    early: Sequence[Symbols], full: Sequence[Symbols], distance: Distance
) -> np.ndarray:
    """Returns how far each early answer is from the full model's.

    The loss of a row is `distance(early, full)`, which needs no labels. One
    call per threshold gives a column of `calibrate`'s losses; the full model
    answers once.

    Source: CALM, arXiv:2207.07061.

    Args:
        early: the answer to each example at one threshold.
        full: the full model's answer to each.
        distance: of two answers, in [0, 1], such as
            `keras_moe.calibration.rouge_l_distance`.

    Returns:
        float64 `[n]`.

    Raises:
        ValueError: if the numbers of rows differ, or a distance is not in
            [0, 1].

    Example:

    >>> keras_moe.calibration.textual_consistency(
    ...     [["a", "b"], ["c"]],
    ...     [["a", "b"], ["d"]],
    ...     keras_moe.calibration.token_f1_distance,
    ... )
    array([0., 1.])
    """
    _check_rows(early=early, full=full)
    return _distances(distance, early, [(answer,) for answer in full])


def risk_consistency(
    early: Sequence[Symbols],
    full: Sequence[Symbols],
    references: Sequence[Sequence[Symbols]],
    distance: Distance,
) -> np.ndarray:
    """Returns how much worse each early answer is than the full model's.

    `distance(early, *alternatives) - distance(full, *alternatives)` of each
    row, and 0 where the early answer is the better one. Because of that cut,
    the mean is at or above the difference of the two risks: a bound certified
    for the mean holds for the difference.

    Source: CALM, arXiv:2207.07061.

    Args:
        early: the answer to each example at one threshold.
        full: the full model's answer to each.
        references: one or more right answers to each example, as in
            `keras_moe.metrics`.
        distance: of an answer and the right ones, in [0, 1], such as
            `keras_moe.calibration.edit_distance_error`.

    Returns:
        float64 `[n]`.

    Raises:
        ValueError: if the numbers of rows differ, or a distance is not in
            [0, 1].

    Example:

    >>> keras_moe.calibration.risk_consistency(
    ...     [["K", "AH", "T"], ["D", "AO", "G"]],
    ...     [["K", "AE", "T"], ["D", "AA", "G"]],
    ...     [[["K", "AE", "T"]], [["D", "AO", "G"], ["D", "AA", "G"]]],
    ...     keras_moe.calibration.edit_distance_error,
    ... ).round(2)
    array([0.33, 0.  ])
    """
    _check_rows(early=early, full=full, references=references)
    for row, alternatives in enumerate(references):
        if not len(alternatives):
            raise ValueError(
                "`references` must list at least one right answer per row. "
                f"Received: none in row {row}."
            )
    worse = _distances(distance, early, references)
    worse -= _distances(distance, full, references)
    return np.maximum(worse, 0.0)


def _check_rows(**columns: Sequence) -> None:
    rows = {name: len(column) for name, column in columns.items()}
    if len(set(rows.values())) != 1:
        names = ", ".join(f"`{name}`" for name in rows)
        raise ValueError(
            f"{names} must have one row per example each. Received: {rows}."
        )


def _distances(
    distance: Distance,
    answers: Sequence[Symbols],
    others: Sequence[Sequence[Symbols]],
) -> np.ndarray:
    distances = np.zeros(len(answers))
    for row, (answer, other) in enumerate(zip(answers, others, strict=True)):
        found = float(distance(answer, *other))
        if not 0.0 <= found <= 1.0:
            raise ValueError(
                f"`distance` must be in [0, 1]. Received: {found} in row {row}."
            )
        distances[row] = found
    return distances
