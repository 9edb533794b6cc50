"""Functions by their import paths, as TFX names them."""

import importlib
from collections.abc import Callable
from typing import Any


def find_function(function: str | Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function, given itself or by its import path.

    Args:
        function: The function, or `"package.module.function"`.

    Raises:
        ValueError: If there is no such function in the module.
    """
    if callable(function):
        return function
    module, _, name = function.rpartition(".")
    if not module:
        raise ValueError(
            "An import path must be `package.module.function`. "
            f"Received: {function!r}"
        )
    found = getattr(importlib.import_module(module), name, None)
    if not callable(found):
        raise ValueError(
            f"`{module}` must have a function `{name}`. Received: {function!r}"
        )
    return found
