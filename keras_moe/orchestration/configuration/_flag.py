"""A flag of a pipeline's commands."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag that sets a field of the configuration.

    Example:
    >>> keras_moe.orchestration.Flag("steps", "model.steps", int).option
    '--steps'

    Attributes:
        name: The flag, such as `"max_words"` for `--max-words`.
        field: The field that it sets, such as `"data.max_words"`.
        kind: Parses the flag's value; `bool` for a flag without a value, which
            sets the field to true.
        help: A line for `--help`.
    """

    name: str
    field: str
    kind: Callable[[str], Any] = str
    help: str = ""

    @property
    def option(self) -> str:
        """The flag as it is typed."""
        return f"--{self.name.replace('_', '-')}"
