"""What a deferral rule refuses to be made of, or to look at."""

from typing import Any

import numpy as np

from keras_moe.types import Tensor


def check_parts(target: str, network: Any, stages: Any, pad_id: Any) -> None:
    """Raises `ValueError` unless the parts of a rule go together."""
    if (network is None) != (target == "confidence"):
        raise ValueError(
            "`network` must be given for all targets but 'confidence'. "
            f"Received: target={target!r}, network="
            f"{'None' if network is None else 'a network'}."
        )
    if stages is not None and (
        not isinstance(stages, tuple)
        or len(stages) != 2
        or not all(isinstance(each, str) for each in stages)
    ):
        raise ValueError(
            "`stages` must be the fingerprints of two stages. Received: "
            f"stages={stages!r}."
        )
    if isinstance(pad_id, bool) or not isinstance(pad_id, int):
        raise ValueError(
            f"`pad_id` must be an integer. Received: pad_id={pad_id!r}."
        )


def check_threshold(threshold: Any) -> None:
    """Raises `ValueError` unless a threshold is a number that float32 holds."""
    number = isinstance(threshold, (int, float, np.number))
    # Scores are float32, of which a larger number is infinity.
    largest = float(np.finfo("float32").max)
    if (
        isinstance(threshold, bool)
        or not number
        or not abs(threshold) <= largest
    ):
        raise ValueError(
            "`threshold` must be a finite number. Received: threshold="
            f"{threshold!r}."
        )


def check_outputs(outputs: Tensor) -> None:
    """Raises `ValueError` unless outputs are of classes or candidates."""
    shape = tuple(outputs.shape)
    if len(shape) != 2 or shape[1] == 1:
        raise ValueError(
            "The outputs of a stage must have the shape (n, classes), with two "
            "classes at least (of a sigmoid's p, stack 1 - p and p). Received: "
            f"{shape}."
        )
