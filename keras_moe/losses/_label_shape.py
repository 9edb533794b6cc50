"""Whether labels are those of the logits' positions."""

from keras_moe.types import Tensor


def check_label_shape(labels: Tensor, logits: Tensor) -> None:
    """Raises `ValueError` if labels are not one for each position.

    One label for a sequence would be taken for that of each of its positions,
    in silence; any other length is an error that names neither.

    Args:
        labels: int `(batch, length)`.
        logits: `(batch, length, vocabulary)`.
    """
    given, expected = tuple(labels.shape), tuple(logits.shape[:-1])
    if len(given) != len(expected) or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(given, expected, strict=True)
    ):
        raise ValueError(
            "`labels` must have the shape of the logits without their last "
            f"axis, {expected}. Received: labels.shape={given}."
        )
