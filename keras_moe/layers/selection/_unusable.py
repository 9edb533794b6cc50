"""Features that say nothing."""

from collections.abc import Sequence

import numpy as np


def find_unusable(features: Sequence[np.ndarray]) -> list[int]:
    """Returns the numbers of features with nothing to learn from.

    Those that are not finite everywhere, and those that are the same in all
    examples.

    Args:
        features: of each feature an array `(examples, ...)`.
    """
    return [
        number
        for number, values in enumerate(map(np.asarray, features))
        if not np.isfinite(values).all() or np.all(values == values[:1])
    ]
