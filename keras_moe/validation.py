"""Checks of arguments, each with the one wording of its rule.

Pass arguments by name, `check_positive(capacity_factor=capacity_factor)`;
`None` stands for "not given" and passes.
"""

import numbers
from collections.abc import Collection

import numpy as np


def check_size(**sizes: int | None) -> None:
    """Raises `ValueError` unless each is an integer of at least 1."""
    for name, size in sizes.items():
        if size is not None and not (
            isinstance(size, numbers.Integral)
            and not isinstance(size, bool)
            and size >= 1
        ):
            raise ValueError(
                f"`{name}` must be a positive integer. Received: "
                f"{name}={size!r}."
            )


def check_positive(**values: float | None) -> None:
    """Raises `ValueError` unless each is greater than 0."""
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ValueError(
                f"`{name}` must be positive. Received: {name}={value}."
            )


def check_not_negative(**values: float) -> None:
    """Raises `ValueError` unless each is at least 0."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(
                f"`{name}` must not be negative. Received: {name}={value}."
            )


def check_rate(**rates: float) -> None:
    """Raises `ValueError` unless each is in [0, 1)."""
    for name, rate in rates.items():
        if not 0.0 <= rate < 1.0:
            raise ValueError(
                f"`{name}` must be in [0, 1). Received: {name}={rate}."
            )


def check_seed(seed: int | None) -> None:
    """Raises `ValueError` unless it is an integer of 32 bits."""
    if seed is None:
        return
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise ValueError(
            f"`seed` must be an integer in [0, 2**32). Received: seed={seed!r}."
        )


def check_choice(options: Collection[str], **choices: str) -> None:
    """Raises `ValueError` unless each is one of `options`."""
    for name, choice in choices.items():
        if choice not in options:
            raise ValueError(
                f"`{name}` must be one of {tuple(options)}. Received: "
                f"{name}={choice!r}."
            )


def check_fraction(**fractions: float) -> None:
    """Raises `ValueError` unless each is between 0 and 1, both left out."""
    for name, fraction in fractions.items():
        if not 0.0 < fraction < 1.0:
            raise ValueError(
                f"`{name}` must be between 0 and 1. Received: "
                f"{name}={fraction}."
            )


def check_in_unit_interval(name: str, values: np.ndarray) -> None:
    """Raises `ValueError` unless all values are in [0, 1]."""
    # NaN is not in it either: it compares as false.
    outside = ~((values >= 0.0) & (values <= 1.0))
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        where = f" at {index}" if index else ""
        raise ValueError(
            f"`{name}` must be in [0, 1]. Received: {values[index]}{where}."
        )
