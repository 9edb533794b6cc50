"""Plain JSON, read and compared without surprises."""

import math
from typing import Any

import numpy as np


def to_plain(path: str, value: Any) -> Any:
    """Returns a value as JSON holds it; raises where it cannot."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(
                    f"`{path}` must have strings for keys. Received: {key!r}."
                )
        return {k: to_plain(f"{path}.{k}", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(f"{path}.{i}", v) for i, v in enumerate(value)]
    finite = not isinstance(value, float) or math.isfinite(value)
    if value is None or (isinstance(value, (str, bool, int, float)) and finite):
        return value
    raise ValueError(
        f"`{path}` must be a plain value, fit for JSON. Received: {value!r}."
    )


def differences(path: str, certified: Any, given: Any) -> list[str]:
    """Returns, field by field, where a given value differs from a certified."""
    if isinstance(certified, dict) and isinstance(given, dict):
        said = []
        for key in sorted({*certified, *given}):
            below = f"{path}.{key}"
            if key not in given:
                said.append(f"{below} was {certified[key]!r}, is not given")
            elif key not in certified:
                said.append(f"{below} was not there, is {given[key]!r}")
            else:
                said += differences(below, certified[key], given[key])
        return said
    # Python holds True equal to 1; a reader of the file does not.
    same = isinstance(certified, bool) == isinstance(given, bool)
    if same and certified == given:
        return []
    return [f"{path} was {certified!r}, is {given!r}"]


def refuse_constant(constant: str) -> None:
    """Raises `ValueError`: NaN and infinity are no numbers of JSON."""
    raise ValueError(f"Its numbers must be finite. Received: {constant}.")


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object's fields; raises where one is given twice."""
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"Its fields must be given once. Twice: {twice}.")
    return document
