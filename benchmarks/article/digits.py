"""Handwritten digits of scikit-learn, in three parts."""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits


class Part(NamedTuple):
    """Images float32 `[n, 64]` from 0 to 1, and digits int64 `[n]`."""

    images: np.ndarray
    labels: np.ndarray


def load() -> tuple[Part, Part, Part]:
    """Returns 900 to train on, 300 to choose by, and 597 to report."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = (images[order] / 16).astype("float32")
    labels = labels[order].astype("int64")
    return tuple(
        Part(images[rows], labels[rows])
        for rows in (slice(900), slice(900, 1200), slice(1200, None))
    )
