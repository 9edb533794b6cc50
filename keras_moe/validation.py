"""Checks of arguments, each with the one wording of its rule.

Pass arguments by name, `check_positive(capacity_factor=capacity_factor)`;
`None` stands for "not given" and passes.
"""

import numbers
import typing
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any

import numpy as np
from typing_extensions import is_protocol


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
                f"`{name}` must be between 0 and 1, both excluded. Received: "
                f"{name}={fraction}."
            )


def check_in_unit_interval(name: str, values: np.ndarray) -> None:
    """Raises `ValueError` unless all values are in [0, 1]."""
    # Negated, since NaN compares as false: `values < 0.0` would let it pass.
    outside = ~((values >= 0.0) & (values <= 1.0))
    if outside.any():
        index = tuple(int(i) for i in np.argwhere(outside)[0])
        where = f" at {index}" if index else ""
        raise ValueError(
            f"`{name}` must be in [0, 1]. Received: {values[index]}{where}."
        )


def check_contract(contract: type, **values: Any) -> None:
    """Raises `ValueError` unless each has all that a protocol asks for.

    Signatures are left to type checkers: only names are looked at, also those
    of a protocol's parts, such as `config.pad_id`.

    Args:
        contract: a `typing.Protocol`.
        **values: the objects, by the names of the arguments.
    """
    for name, value in values.items():
        if isinstance(value, type):
            raise ValueError(
                f"`{name}` must be {contract.__name__}: an object, not a "
                f"class. Received: {name}={value.__name__}."
            )
        # A protocol and its base may both ask for the same.
        if missing := dict.fromkeys(_missing(contract, value)):
            lacks = ", ".join(f"`{each}`" for each in missing)
            raise ValueError(
                f"`{name}` must be {contract.__name__}: it lacks {lacks}. "
                f"Received: {name} of type {type(value).__name__}."
            )


def _missing(contract: type, value: Any, path: str = "") -> Iterator[str]:
    """Yields what a protocol asks for and an object has not."""
    for base in reversed(contract.__mro__):
        if not is_protocol(base):
            continue
        for name, member in vars(base).items():
            if name.startswith("_"):
                continue
            if not isinstance(member, property):
                if not callable(getattr(value, name, None)):
                    yield path + name
            elif not hasattr(value, name):
                yield path + name
            else:
                part: Any = typing.get_type_hints(member.fget).get("return")
                if is_protocol(part):
                    part_of_value = getattr(value, name)
                    yield from _missing(part, part_of_value, f"{path}{name}.")
