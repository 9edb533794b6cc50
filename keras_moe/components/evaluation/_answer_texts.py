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
