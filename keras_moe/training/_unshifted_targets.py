"""A decoder that is given what it must predict."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_moe.ops._token_ids import IGNORE_ID

_ROWS = 256


def warn_of_unshifted_targets(inputs: Any, labels: Any, pad_id: int) -> None:
    """Warns where the decoder's inputs are its labels, position by position.

    Such a model learns to copy: its loss falls to 0, and it says nothing when
    it decodes. Data that are no arrays are not looked at, since a data set may
    give its examples only once.

    Args:
        inputs: as `fit` takes them.
        labels: as `fit` takes them.
        pad_id: the id of padding.
    """
    if not isinstance(inputs, Mapping) or not isinstance(labels, np.ndarray):
        return
    taught = inputs.get("decoder_token_ids")
    if not isinstance(taught, np.ndarray) or taught.shape != labels.shape:
        return
    taught, labels = taught[:_ROWS], labels[:_ROWS]
    real = ~np.isin(labels, (pad_id, IGNORE_ID))
    # One token may be equal by chance, as where it comes twice in a row.
    if real.sum() > 1 and np.all(taught[real] == labels[real]):
        warnings.warn(
            "The decoder is given the very token that it must predict: "
            "`decoder_token_ids` equal the labels at each position. "
            "`keras_moe.ops.shift_right(labels)` makes its inputs.",
            stacklevel=3,
        )
