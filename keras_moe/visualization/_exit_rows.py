"""The rows of a picture of exit depths: tokens and where they left."""

import dataclasses
import numbers
import unicodedata
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_moe.validation import check_size

# Control characters, halves of surrogate pairs, line and paragraph separators.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


@dataclasses.dataclass(frozen=True)
class ExitRow:
    """The tokens of one row that were emitted.

    Attributes:
        tokens: their texts, fit to be shown.
        layers: for each the layer at which it left the decoder, from 1.
        label: what stands before the row; may be empty.
    """

    tokens: tuple[str, ...]
    layers: tuple[int, ...]
    label: str

    @property
    def mean(self) -> str:
        """The mean exit layer; a dash for a row without tokens."""
        return f"{np.mean(self.layers):.1f}" if self.layers else "\N{EN DASH}"


def exit_rows(
    tokens: Sequence[Sequence[str]],
    exit_layers: Sequence[Sequence[int]],
    num_layers: int,
    labels: Sequence[str] | None = None,
) -> list[ExitRow]:
    """Checks tokens and exit layers, and leaves out what was not emitted.

    Args:
        tokens: rows of texts; they may differ in length.
        exit_layers: rows of integers in [0, num_layers], one for each token;
            0 stands for padding.
        num_layers: number of layers of the decoder.
        labels: a text for each row.

    Raises:
        ValueError: if the three do not fit together, or an exit layer is not
            in the decoder, or no token was emitted.
        TypeError: if tokens or labels are not texts, or exit layers are not
            integers.
    """
    if num_layers is None:
        raise ValueError(
            "`num_layers` must be a positive integer. Received: "
            "num_layers=None."
        )
    check_size(num_layers=num_layers)
    texts = [_texts(f"tokens[{i}]", r) for i, r in _rows("tokens", tokens)]
    layers = [
        _layers(f"exit_layers[{i}]", row, num_layers)
        for i, row in _rows("exit_layers", exit_layers)
    ]
    names = [""] * len(texts) if labels is None else _texts("labels", labels)
    if not len(texts) == len(layers) == len(names):
        raise ValueError(
            "`tokens`, `exit_layers` and `labels` must have as many rows. "
            f"Received: {len(texts)} rows of tokens, {len(layers)} of exit "
            f"layers and {len(names)} labels."
        )
    for i, (row, depths) in enumerate(zip(texts, layers, strict=True)):
        if len(row) != len(depths):
            raise ValueError(
                "`exit_layers` must have one entry for each token. Received: "
                f"{len(row)} tokens and {len(depths)} exit layers in row {i}."
            )
    if not any(any(depths) for depths in layers):
        raise ValueError(
            "`exit_layers` must hold a layer other than 0, that is, a token "
            f"that was emitted. Received: {len(layers)} rows without any."
        )
    return [
        ExitRow(
            tokens=tuple(
                _visible(t) for t, d in zip(row, depths, strict=True) if d
            ),
            layers=tuple(d for d in depths if d),
            label=_visible(name),
        )
        for row, depths, name in zip(texts, layers, names, strict=True)
    ]


def _rows(name: str, rows: Any) -> Iterable[tuple[int, Any]]:
    """Yields each row and its index."""
    if isinstance(rows, str | bytes) or not hasattr(rows, "__len__"):
        raise TypeError(
            f"`{name}` must be a sequence of rows. Received: {rows!r}."
        )
    return enumerate(rows)


def _texts(name: str, row: Any) -> list[str]:
    # A string is a sequence of strings, too: each letter would become a token.
    if (
        isinstance(row, str | bytes)
        or not hasattr(row, "__len__")
        or not all(isinstance(text, str) for text in row)
    ):
        raise TypeError(
            f"`{name}` must be a sequence of strings. Received: {row!r}."
        )
    return [str(text) for text in row]


def _layers(name: str, row: Any, num_layers: int) -> list[int]:
    if hasattr(row, "__array__"):  # a tensor of any framework
        row = np.asarray(row)
    if isinstance(row, str | bytes) or not hasattr(row, "__len__"):
        raise TypeError(
            f"`{name}` must be a sequence of integers. Received: {row!r}."
        )
    for layer in row:
        if not isinstance(layer, numbers.Integral) or isinstance(layer, bool):
            raise TypeError(
                f"`{name}` must hold integers. Received: {layer!r}."
            )
        if not 0 <= int(layer) <= num_layers:
            raise ValueError(
                f"`{name}` must be in [0, num_layers], num_layers="
                f"{num_layers}, where 0 is padding. Received: {layer}."
            )
    return [int(layer) for layer in row]


def _visible(text: str) -> str:
    """Replaces characters that leave no mark, or break the line."""
    return "".join(
        "\N{OPEN BOX}"
        if letter == " " and not text.strip()
        else letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in _UNPRINTABLE
        else letter
        for letter in text
    )
