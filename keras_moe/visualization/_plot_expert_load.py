"""The heat map of layers and experts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_moe.visualization._collect_expert_load import collect_expert_load
from keras_moe.visualization._figure_files import new_figure
from keras_moe.visualization._layer_loads import LayerLoads

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_FACTOR = 4.0  # where the colours end: a quarter, and four times, of even
_COLOURS = "PuOr_r"  # diverging, and safe for the colour-blind
_MOST_NUMBERED = 16  # columns with room for a number in each cell
_BLANK = "#d9d9d9"
_BAR = "#444444"


def plot_expert_load(
    source: keras.Model | keras.callbacks.History | Mapping | LayerLoads,
    data: Any = None,
    *,
    steps: int | None = None,
    batch_size: int = 32,
    training: bool = False,
    epoch: int = -1,
    title: str | None = None,
    figure: "Figure | None" = None,
) -> "Figure":
    """Draws how the tokens of every layer spread over its experts.

    One row a layer, one column an expert. The colour is the expert's load over
    that of an even layer, on a logarithmic scale: white is even, orange more,
    purple less; the scale is the same in every picture. Experts without a
    single token are framed and crossed out. The bars to the right show the
    share of tokens that no expert took, on a fixed scale as well. Layers may
    differ in their number of experts.

    Args:
        source: a built model (with `data`), or what `fit` returned (or its
            dictionary) when an `ExpertLoadCallback` was there, or a
            `LayerLoads`.
        data: what to run a model over; see `collect_expert_load`, to which
            `steps`, `batch_size` and `training` belong as well. With
            `training=True` the bars show what training drops.
        steps: number of batches.
        batch_size: rows of a batch, where `data` is not batched.
        training: whether to run the model as in training.
        epoch: which epoch of a history.
        title: a title.
        figure: an empty Matplotlib figure to draw into; by default a new one,
            of a size that fits.

    Returns:
        A `matplotlib.figure.Figure`: `figure.savefig("load.png")`.

    Raises:
        ImportError: if Matplotlib is not installed.
        ValueError: if a model comes without data, or anything else with data,
            or the source holds no loads.

    Example:

    >>> loads = keras_moe.visualization.LayerLoads(
    ...     names=("encoder", "decoder"),
    ...     loads=(np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.75])),
    ...     dropped=(0.1, 0.0),
    ... )
    >>> figure = keras_moe.visualization.plot_expert_load(loads)
    """
    loads = _resolve(source, data, steps, batch_size, training, epoch)
    rows = len(loads.names)
    columns = max(len(load) for load in loads.loads)
    # Sizes in inches: those of the map; bars and scale are added below.
    width, height = min(max(0.45 * columns, 3.5), 11.0), 0.38 * rows
    if figure is None:
        figure = new_figure(
            "plot_expert_load",
            (width + 3.0, height + 1.4),
            layout="constrained",
        )
    grid = figure.add_gridspec(
        2, 2, width_ratios=[width, 1.2], height_ratios=[height, 0.15]
    )
    heat = figure.add_subplot(grid[0, 0])
    bars = figure.add_subplot(grid[0, 1], sharey=heat)
    image = _draw_loads(heat, loads, columns)
    _draw_scale(figure.add_subplot(grid[1, 0]), image)
    _draw_dropped(bars, loads.dropped)
    if title:
        figure.suptitle(title)
    return figure


def _resolve(
    source: Any,
    data: Any,
    steps: int | None,
    batch_size: int,
    training: bool,
    epoch: int,
) -> LayerLoads:
    if isinstance(source, keras.Model) != (data is not None):
        raise ValueError(
            "`data` must be given with a model, and with a model only. "
            f"Received: source of type {type(source).__name__} "
            f"{'without' if data is None else 'with'} data."
        )
    if isinstance(source, LayerLoads):
        return source
    if isinstance(source, keras.Model):
        return collect_expert_load(source, data, steps, batch_size, training)
    return LayerLoads.from_history(source, epoch)


def _draw_loads(axes: "Axes", loads: LayerLoads, columns: int) -> "AxesImage":
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    table = np.full((len(loads.names), columns), np.nan)
    for row, load in zip(table, loads.relative(), strict=True):
        row[: len(load)] = load
    # On a logarithmic scale half an even load is as far from even as twice it.
    image = axes.imshow(
        np.where(table > 0, table, np.nan),
        norm=LogNorm(1 / _FACTOR, _FACTOR, clip=True),
        cmap=_COLOURS,
        aspect="auto",
        interpolation="none",
    )
    axes.set_facecolor(_BLANK)  # where a layer has no such expert
    dead = np.argwhere(table == 0)
    for row, column in dead:
        axes.add_patch(
            Rectangle(
                (column - 0.46, row - 0.46),
                0.92,
                0.92,
                facecolor="white",
                edgecolor="black",
                linewidth=1.5,
            )
        )
        axes.plot(column, row, "x", color="black", markersize=5)
    if columns <= _MOST_NUMBERED:
        for row, column in np.argwhere(table > 0):
            _write_number(image, axes, row, column, table[row, column])
    axes.set_yticks(range(len(loads.names)), _short(loads.names))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(
        "expert" + ("  (framed: no token at all)" * bool(len(dead)))
    )
    return image


def _write_number(
    image: "AxesImage", axes: "Axes", row: int, column: int, value: float
) -> None:
    red, green, blue, _ = image.to_rgba(np.array([value]))[0]
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
    axes.text(
        column,
        row,
        f"{value:.1f}" if value < 9.95 else f"{value:.0f}",
        color="black" if bright else "white",
        ha="center",
        va="center",
        fontsize="small",
    )


def _draw_scale(axes: "Axes", image: "AxesImage") -> None:
    bar = axes.figure.colorbar(
        image,
        cax=axes,
        orientation="horizontal",
        extend="both",
        ticks=[1 / _FACTOR, 1 / 2, 1, 2, _FACTOR],
    )
    axes.set_xticklabels(["1/4", "1/2", "1 (even)", "2", "4"])
    bar.minorticks_off()
    bar.set_label("load over an even load")


def _draw_dropped(axes: "Axes", dropped: tuple[float, ...]) -> None:
    shares = 100 * np.asarray(dropped)
    axes.barh(range(len(shares)), shares, color=_BAR, height=0.6)
    # A fixed limit makes pictures comparable; above 100 % is room for numbers.
    limit = 190.0
    axes.set_xlim(0, limit)
    for row, share in enumerate(shares):
        axes.text(
            share + 0.03 * limit,
            row,
            f"{share:.1f} %",
            va="center",
            size="small",
        )
    axes.set_xticks([])
    axes.set_xlabel("dropped", loc="left")
    axes.tick_params(left=False, labelleft=False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _short(names: tuple[str, ...]) -> list[str]:
    """Leaves out the first and last components where all names share them."""
    parts = [name.split("/") for name in names]
    while len(parts) > 1 and all(len(p) > 1 for p in parts):
        for end in (0, -1):
            if len({p[end] for p in parts}) == 1:
                for p in parts:
                    del p[end]
                break
        else:
            break
    return ["/".join(p) for p in parts]
