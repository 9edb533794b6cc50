"""Texts of symbols, as TFMA hands out predictions and labels."""

from typing import Any

import numpy as np

Answer = list[str]


def split_answers(
    prediction: Any, label: Any, separator: str, alternatives_separator: str
) -> tuple[Answer, list[Answer]]:
    """Splits an example's prediction and label into symbols.

    Args:
        prediction: As TFMA has it, one text.
        label: As TFMA has it, one text of all accepted answers.
        separator: Between symbols; `""` if each character is one. An empty
            symbol, as between two separators, is none.
        alternatives_separator: Between accepted answers; `""` if the label is
            a single answer.

    Returns:
        The predicted symbols, and the symbols of each accepted answer.

    Raises:
        ValueError: If prediction or label is anything but one text.
    """
    text = _text(label, "label")
    references = (
        text.split(alternatives_separator) if alternatives_separator else [text]
    )
    return (
        _symbols(_text(prediction, "prediction"), separator),
        [_symbols(reference, separator) for reference in references],
    )


def check_separators(separator: Any, alternatives_separator: Any) -> None:
    """Raises `ValueError` unless answers can be told apart, and symbols.

    Args:
        separator: As for `split_answers`.
        alternatives_separator: As for `split_answers`.
    """
    for name, value in (
        ("separator", separator),
        ("alternatives_separator", alternatives_separator),
    ):
        if not isinstance(value, str):
            raise ValueError(
                f"`{name}` must be text. Received: {name}={value!r}."
            )
    # A label is split into answers first: every symbol would be an answer.
    if alternatives_separator and alternatives_separator in separator:
        raise ValueError(
            "`alternatives_separator` must not stand in `separator`. Received: "
            f"separator={separator!r}, "
            f"alternatives_separator={alternatives_separator!r}."
        )


def _symbols(text: str, separator: str) -> Answer:
    if not separator:
        return list(text)
    return [symbol for symbol in text.split(separator) if symbol]


def _text(value: Any, what: str) -> str:
    values = np.ravel(value)
    if values.size != 1 or not isinstance(values[0], bytes | str):
        raise ValueError(
            f"The {what} of each example must be one string: see "
            "`prediction_key` and `label_key` of the metric, `label_key` of "
            f"the `ModelSpec`. Received: {value!r}"
        )
    text = values[0]
    return text.decode() if isinstance(text, bytes) else text
