"""The curve of what more features are good for."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_moe.validation import check_positive
from keras_moe.validation import check_size
from keras_moe.visualization._figure_files import check_target
from keras_moe.visualization._figure_files import new_figure
from keras_moe.visualization._figure_files import save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVE, _ALL = "#0072b2", "#b34700"


def plot_feature_curve(
    scores: Mapping[int, float],
    score_of_all: float | None = None,
    *,
    score_label: str = "accuracy",
    title: str | None = None,
    path: str | os.PathLike | None = None,
    dpi: float = 150.0,
) -> "Figure":
    """Draws what models reach with the features that were picked first.

    Args:
        scores: number of features to what a model reaches with so many.
        score_of_all: what one reaches with all; a dashed line.
        score_label: what scores are.
        title: a title.
        path: where to write a PNG; `None` to write none.
        dpi: pixels per inch of the PNG.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if Matplotlib is not installed.
        ValueError: if there are no scores, one is not finite, or `path` is no
            PNG.
        FileNotFoundError: if there is no folder for `path`.

    Example:

    >>> figure = keras_moe.visualization.plot_feature_curve(
    ...     {1: 0.41, 2: 0.62, 4: 0.83}, score_of_all=0.86
    ... )
    """
    check_target(path, ".png")
    check_positive(dpi=dpi)
    numbers = sorted(scores)
    for number in numbers:
        check_size(scores=number)
    values = [scores[number] for number in numbers]
    known = values if score_of_all is None else [*values, score_of_all]
    if not values or not np.isfinite(known).all():
        raise ValueError(
            "`scores` must be some, and finite. Received: "
            f"scores={dict(scores)}, score_of_all={score_of_all}."
        )
    figure = new_figure("plot_feature_curve", (6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(numbers, values, "o-", color=_CURVE, label="picked first")
    if score_of_all is not None:
        axes.axhline(score_of_all, color=_ALL, linestyle="--", label="all")
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.set_xlabel("number of features")
    axes.set_ylabel(score_label)
    axes.legend()
    if title is not None:
        axes.set_title(title)
    if path is not None:
        save_png(figure, path, dpi)
    return figure
