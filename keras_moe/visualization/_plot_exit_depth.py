"""The strip of exit depths: text, coloured by where its tokens left."""

import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_moe.validation import check_positive
from keras_moe.visualization._exit_colours import exit_colours
from keras_moe.visualization._exit_colours import ink_on
from keras_moe.visualization._exit_rows import ExitRow
from keras_moe.visualization._exit_rows import exit_rows
from keras_moe.visualization._figure_files import check_target
from keras_moe.visualization._figure_files import new_figure
from keras_moe.visualization._figure_files import save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sizes in points, 1/72 inch.
_TEXT = 11.0  # size of letters
_SMALL = 7.0
_CELL = 30.0  # height of a cell, and its least width
_PAD = 5.0  # on each side of a token
_GAP = 2.0  # from cell to cell
_BETWEEN = 9.0  # from row to row
_MARGIN = 14.0
_BAR = 10.0  # height of the colour bar
_GREY = "#555555"
_MOST_TICKS = 16


def plot_exit_depth(
    tokens: Sequence[Sequence[str]],
    exit_layers: Sequence[Sequence[int]],
    num_layers: int,
    path: str | os.PathLike | None = None,
    title: str | None = None,
    *,
    labels: Sequence[str] | None = None,
    max_width: float = 9.0,
    dpi: float = 150.0,
) -> "Figure":
    """Draws at which layer each token left the decoder.

    One row a sequence, one cell a token. The colour, and the small number
    below the token, are the layer after which it was emitted: light is
    shallow, dark is deep. To the right stands the mean of the row. Long rows
    are wrapped. For exits by token, as in CALM (Schuster et al., 2022,
    https://arxiv.org/abs/2207.07061).

    Args:
        tokens: rows of texts; they may differ in length.
        exit_layers: rows of integers in [0, num_layers], one for each token;
            0 stands for padding, which is left out.
        num_layers: number of layers of the decoder.
        path: where to write a PNG; `None` to write none.
        title: a title.
        labels: what stands before each row, such as the word that was read.
        max_width: widest row of cells, in inches, if no token is wider.
        dpi: pixels per inch of the PNG.

    Returns:
        A `matplotlib.figure.Figure`, of a size that fits.

    Raises:
        ImportError: if Matplotlib is not installed.
        ValueError: if rows do not fit together, or an exit layer is not in the
            decoder, or no token was emitted, or `path` is no PNG.
        TypeError: if tokens are not texts, or exit layers not integers.
        FileNotFoundError: if there is no folder for `path`.

    Example:

    >>> figure = keras_moe.visualization.plot_exit_depth(
    ...     [["F", "OW", "T", "AH"], ["K", "AE", "T"]],
    ...     [[1, 4, 1, 3], [1, 2, 1]],
    ...     num_layers=8,
    ...     labels=["photo", "cat"],
    ... )
    """
    check_target(path, ".png")
    check_positive(max_width=max_width, dpi=dpi)
    rows = exit_rows(tokens, exit_layers, num_layers, labels)
    figure = new_figure("plot_exit_depth", (1, 1))
    measure = _measure(figure)
    widths = [
        [max(_CELL, measure(t, _TEXT) + 2 * _PAD) for t in row.tokens]
        for row in rows
    ]
    lines = [_wrap(row, 72 * max_width) for row in widths]
    left = _MARGIN + max(measure(row.label, _TEXT) for row in rows)
    left += _PAD * any(row.label for row in rows)
    right = left + max(
        sum(row[i] for i in line) + _GAP * len(line)
        for row, wrapped in zip(widths, lines, strict=True)
        for line in wrapped
    )
    # The colour bar and the title may need more width than short rows.
    strip_end = right
    right = max(right, left + 150, measure(title or "", _TEXT + 1) - 30)
    top = _MARGIN + _SMALL + _PAD + (_TEXT + 2 * _PAD) * bool(title)
    tops = top + np.cumsum(
        [0.0] + [len(w) * (_CELL + _GAP) + _BETWEEN for w in lines]
    )
    size = (right + 48 + _MARGIN, tops[-1] + 55)
    figure.set_size_inches(size[0] / 72, size[1] / 72)
    axes = _page(figure, size)
    if title:
        figure.suptitle(
            title,
            x=_MARGIN / size[0],
            y=1 - _MARGIN / size[1],
            ha="left",
            va="top",
            size=_TEXT + 1,
        )
    axes.text(
        strip_end + _PAD,
        top - _PAD,
        "mean",
        size=_SMALL + 1,
        color=_GREY,
        va="bottom",
    )
    colours = exit_colours(num_layers)
    for row, sizes, wrapped, y in zip(rows, widths, lines, tops, strict=False):
        axes.text(
            left - _PAD,
            y + _CELL / 2,
            row.label,
            size=_TEXT,
            ha="right",
            va="center",
            parse_math=False,
            gid="label",
        )
        for number, line in enumerate(wrapped):
            x = left
            for i in line:
                corner = x, y + number * (_CELL + _GAP)
                _draw_cell(axes, corner, sizes[i], row, i, colours)
                x += sizes[i] + _GAP
        axes.text(
            strip_end + _PAD,
            y + (len(wrapped) * (_CELL + _GAP) - _GAP) / 2,
            row.mean,
            size=_TEXT,
            va="center",
            gid="mean",
        )
    bar = left, tops[-1], min(right - left, 320)
    _draw_scale(figure, size, bar, colours)
    if path is not None:
        save_png(figure, path, dpi)
    return figure


def _measure(figure: "Figure") -> Callable[[str, float], float]:
    """Returns a function from a text and its size to its width in points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.font_manager import FontProperties

    renderer = FigureCanvasAgg(figure).get_renderer()

    def measure(text: str, size: float) -> float:
        font = FontProperties(size=size)
        width, _, _ = renderer.get_text_width_height_descent(text, font, False)
        return width * 72 / figure.dpi

    return measure


def _wrap(widths: list[float], limit: float) -> list[list[int]]:
    """Breaks a row of cells into lines of their indices."""
    lines: list[list[int]] = [[]]
    used = 0.0
    for i, width in enumerate(widths):
        if lines[-1] and used + width > limit:
            lines.append([])
            used = 0.0
        lines[-1].append(i)
        used += width + _GAP
    return lines


def _page(figure: "Figure", size: tuple[float, float]) -> "Axes":
    """Returns axes over the whole figure, in points from the top left."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, size[0])
    axes.set_ylim(size[1], 0)
    axes.set_axis_off()
    return axes


def _draw_cell(
    axes: "Axes",
    corner: tuple[float, float],
    width: float,
    row: ExitRow,
    index: int,
    colours: list[str],
) -> None:
    from matplotlib.patches import Rectangle

    x, y = corner
    layer = row.layers[index]
    colour = colours[layer - 1]
    axes.add_patch(
        Rectangle(corner, width, _CELL, facecolor=colour, edgecolor="#99999966")
    )
    # `parse_math=False`: dollar signs in a token do not enclose a formula.
    for text, size, height, gid in (
        (row.tokens[index], _TEXT, 0.4, "token"),
        (str(layer), _SMALL, 0.8, "layer"),
    ):
        axes.text(
            x + width / 2,
            y + height * _CELL,
            text,
            size=size,
            color=ink_on(colour),
            ha="center",
            va="center_baseline",
            parse_math=False,
            gid=gid,
        )


def _draw_scale(
    figure: "Figure",
    size: tuple[float, float],
    place: tuple[float, float, float],
    colours: list[str],
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm
    from matplotlib.colors import ListedColormap

    x, y, width = place
    axes = figure.add_axes(
        (
            x / size[0],
            1 - (y + _BAR) / size[1],
            width / size[0],
            _BAR / size[1],
        )
    )
    step = -(-len(colours) // _MOST_TICKS)
    edges = np.arange(len(colours) + 1) + 0.5
    bar = figure.colorbar(
        ScalarMappable(
            BoundaryNorm(edges, len(colours)), ListedColormap(colours)
        ),
        cax=axes,
        orientation="horizontal",
        # Ticks are counted down from the last layer, which thus always has one.
        ticks=[1, *range(len(colours), step, -step)[::-1]],
    )
    bar.minorticks_off()
    bar.set_label("exit layer", size=_SMALL + 2)
    axes.tick_params(labelsize=_SMALL + 1, length=2)
