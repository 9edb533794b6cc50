"""Weights of a batch that Keras would misread without a word."""

from typing import Any


def check_weights(y: Any, options: dict[str, Any]) -> None:
    """Refuses weights that do not come to what they say.

    Args:
        y: the labels, if any.
        options: other arguments of `keras.Model.fit`.

    Raises:
        ValueError: if there are weights of classes, or weights without labels.
    """
    if options.get("class_weight") is not None:
        raise ValueError(
            "`class_weight` must be left out: labels are keys, no classes, and "
            "Keras would make one class of them all. Give `sample_weight`. "
            f"Received: class_weight={options['class_weight']!r}."
        )
    if y is None and options.get("sample_weight") is not None:
        raise ValueError(
            "`sample_weight` must come with `y`, for instance the numbers of "
            "rows: Keras drops weights without labels, and says nothing. "
            "Received: y=None."
        )
