"""What an index must offer to be tuned: levels, from coarse to exact."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple
from typing import Protocol

import numpy as np

# How many things each level lets through, by the level's name.
Settings = Mapping[str, int]


class Level(NamedTuple):
    """A level of an index: it orders things and lets the first ones through.

    Attributes:
        name: of its setting, the number of those let through.
        least: smallest setting that is sure to find k candidates.
        most: greatest setting.
        fixed_bytes: read by the level whatever the setting.
        bytes_each: read below for each one let through.

    Example:

    >>> level = keras_moe.retrieval.Level("blocks_to_search", 1, 40, 0, 32_768)
    >>> keras_moe.retrieval.bytes_per_query([level], {"blocks_to_search": 3})
    98304.0
    """

    name: str
    least: int
    most: int
    fixed_bytes: float
    bytes_each: float


class TunableIndex(Protocol):
    """An index with settings that trade what it finds for what it reads.

    Rows have numbers, those of `vectors`, in an order of the index's own.

    Example:

    >>> def coarsest(index: keras_moe.retrieval.TunableIndex) -> str:
    ...     return index.levels(index.k)[0].name
    >>> rows = np.random.default_rng(0).normal(size=(256, 4))
    >>> coarsest(keras_moe.retrieval.BlockIndex(rows, k=3, blocks_to_search=2))
    'blocks_to_search'
    """

    @property
    def k(self) -> int:
        """How many results a search returns where nothing else is said."""

    @property
    def storage(self) -> str:
        """How rows are kept: `"float32"`, `"bfloat16"` or `"int8"`."""

    @property
    def settings(self) -> dict[str, int]:
        """What a search reads where nothing else is said; may be set."""

    @settings.setter
    def settings(self, settings: Settings) -> None: ...

    @property
    def fingerprint(self) -> str:
        """Of all that answers depend on, but for the settings."""

    def vectors(self) -> np.ndarray:
        """Returns the candidates, float32 `[candidates, dim]`."""

    def levels(self, k: int) -> Sequence[Level]:
        """Returns the levels that have a setting, the coarsest first."""

    def search(
        self, queries: np.ndarray, k: int, settings: Settings | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns scores and numbers of rows, `[queries, k]`; -1 is none."""

    def ranks(
        self, queries: np.ndarray, neighbors: np.ndarray, choices: np.ndarray
    ) -> Sequence[np.ndarray]:
        """Returns at which setting of each level a candidate comes through.

        Args:
            queries: float32 `[queries, dim]`.
            neighbors: numbers of rows, `[queries, k]`.
            choices: `[choices]`, settings of the first level.

        Returns:
            For the first level `[queries, k]`, the smallest setting that lets
            the neighbour through; for each other level `[queries, k, choices]`,
            the same among what the first lets through at that setting.
        """


def bytes_per_query(levels: Sequence[Level], settings: Settings) -> float:
    """Returns the bytes that a query reads.

    Args:
        levels: of an index.
        settings: one for each level.

    Example:

    >>> blocks = keras_moe.retrieval.Level("blocks_to_search", 1, 40, 64, 1000)
    >>> keras_moe.retrieval.bytes_per_query([blocks], {"blocks_to_search": 3})
    3064.0
    """
    return float(
        sum(
            level.fixed_bytes + level.bytes_each * settings[level.name]
            for level in levels
        )
    )


def check_settings(
    levels: Sequence[Level], settings: Settings
) -> dict[str, int]:
    """Returns settings as plain integers, in the order of the levels.

    Raises:
        ValueError: if one is missing, unknown, or out of its level's range.
    """
    names = [level.name for level in levels]
    if sorted(settings) != sorted(names):
        raise ValueError(
            f"`settings` must have one for each of {names}. Received: "
            f"settings={dict(settings)}."
        )
    for level in levels:
        value = settings[level.name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | np.integer)
            or not level.least <= value <= level.most
        ):
            raise ValueError(
                f"`{level.name}` must be an integer from {level.least}, below "
                f"which fewer than k candidates might be found, to "
                f"{level.most}. Received: {level.name}={value!r}."
            )
    return {name: int(settings[name]) for name in names}
