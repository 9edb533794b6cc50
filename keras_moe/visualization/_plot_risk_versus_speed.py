"""The curve of what early exits cost against what they save."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from keras_moe.calibration._checks import to_thresholds
from keras_moe.validation import check_fraction
from keras_moe.validation import check_in_unit_interval
from keras_moe.validation import check_positive
from keras_moe.visualization._figure_files import check_target
from keras_moe.visualization._figure_files import new_figure
from keras_moe.visualization._figure_files import save_png
from keras_moe.visualization._label_placement import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: the colour-blind can tell these apart, and they
# differ in lightness.
_CURVE = "#0072b2"
_TOLERANCE = "#b34700"
_CERTIFIED = "#000000"
_BASELINE = "#555555"
_APART = 60.0  # pixels of the figure, 100 per inch, between labelled points


def plot_risk_versus_speed(
    thresholds: ArrayLike,
    risks: ArrayLike,
    speeds: ArrayLike,
    tolerance: float,
    certified_threshold: float | None = None,
    *,
    p_values: ArrayLike | None = None,
    confidence_level: float = 0.95,
    upper_bounds: ArrayLike | None = None,
    baselines: Mapping[str, tuple[float, float]] | None = None,
    speed_label: str = "mean exit layer",
    risk_label: str = "mean loss (risk)",
    title: str | None = None,
    path: str | os.PathLike | None = None,
    dpi: float = 150.0,
) -> "Figure":
    """Draws the risk at each threshold against the speed there.

    One point a threshold, joined in the order of the thresholds; some are
    labelled, as many as there is room for. A dashed line is the tolerance, a
    star the threshold that `calibration.calibrate` certified. With p-values,
    full points are those whose own test finds the risk within the tolerance.
    (Not all of them are certified: a fixed sequence of tests ends at the first
    that fails; Angelopoulos et al., 2021, https://arxiv.org/abs/2110.01052.)

    Args:
        thresholds: distinct numbers `[m]`.
        risks: mean loss at each, in [0, 1].
        speeds: mean exit layer, speed-up or the like at each; positive.
        tolerance: largest risk allowed, in (0, 1).
        certified_threshold: one of `thresholds`; `None` if none was certified.
        p_values: of the hypothesis that the risk is above the tolerance, at
            each threshold.
        confidence_level: p-values up to 1 minus this reject it.
        upper_bounds: an upper confidence bound of the risk at each threshold,
            not below the risk; drawn as a band.
        baselines: by name the pair (speed, risk) of something to compare with,
            such as the model cut at a layer; drawn as crosses.
        speed_label: what `speeds` are.
        risk_label: what `risks` are.
        title: a title.
        path: where to write a PNG; `None` to write none.
        dpi: pixels per inch of the PNG.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: if Matplotlib or adjustText is not installed.
        ValueError: if there are no thresholds, or lengths differ, or values
            are out of range, or the certified threshold is none of them, or
            `path` is no PNG.
        FileNotFoundError: if there is no folder for `path`.

    Example:

    >>> figure = keras_moe.visualization.plot_risk_versus_speed(
    ...     thresholds=[0.9, 0.6, 0.3],
    ...     risks=[0.0, 0.02, 0.12],
    ...     speeds=[6.5, 4.2, 2.4],
    ...     tolerance=0.05,
    ...     certified_threshold=0.6,
    ...     baselines={"cut at layer 4": (4.0, 0.3)},
    ... )
    """
    check_target(path, ".png")
    check_positive(dpi=dpi)
    check_fraction(tolerance=tolerance, confidence_level=confidence_level)
    levels = to_thresholds(thresholds, correction="bonferroni")
    # The curve joins points in the order of thresholds, not as they were given.
    order = np.argsort(levels)
    certified = _find(levels[order], certified_threshold)
    risk = _column("risks", risks, levels)[order]
    check_in_unit_interval("risks", risk)
    speed = _column("speeds", speeds, levels)[order]
    _check_speeds("speeds", speed)
    if p_values is not None:
        p_values = _column("p_values", p_values, levels)[order]
        check_in_unit_interval("p_values", p_values)
    if upper_bounds is not None:
        upper_bounds = _column("upper_bounds", upper_bounds, levels)[order]
        check_in_unit_interval("upper_bounds", upper_bounds)
        if (upper_bounds < risk).any():
            raise ValueError(
                "`upper_bounds` must not be below `risks`. Received: "
                f"upper_bounds={upper_bounds.tolist()}, risks={risk.tolist()} "
                f"at thresholds={levels[order].tolist()}."
            )
    crosses = _to_baselines(baselines or {})
    figure = new_figure(
        "plot_risk_versus_speed", (7.0, 5.0), layout="constrained"
    )
    axes = figure.add_subplot()
    if upper_bounds is not None:
        _draw_band(axes, speed, risk, upper_bounds)
    _draw_curve(axes, speed, risk, p_values, 1 - confidence_level)
    axes.axhline(
        tolerance,
        color=_TOLERANCE,
        linestyle="--",
        label=f"tolerance {tolerance:g}",
        gid="tolerance",
    )
    if certified is not None:
        axes.plot(
            speed[certified],
            risk[certified],
            "*",
            color=_CERTIFIED,
            markeredgecolor="white",
            markersize=17,
            label="certified",
            gid="certified",
            zorder=4,
        )
    if crosses:
        axes.plot(
            *np.array(list(crosses.values())).T,
            "x",
            color=_BASELINE,
            markersize=8,
            markeredgewidth=2,
            label="baseline",
            gid="baselines",
            zorder=3,
        )
    axes.set_xlabel(speed_label)
    axes.set_ylabel(risk_label)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.margins(0.08)
    if title:
        axes.set_title(title, loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    _label(
        figure,
        axes,
        levels[order],
        speed,
        risk,
        tolerance,
        certified,
        crosses,
    )
    if path is not None:
        save_png(figure, path, dpi)
    return figure


def _column(name: str, values: ArrayLike, thresholds: np.ndarray) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.shape != thresholds.shape:
        raise ValueError(
            f"`{name}` must have one entry for each of the {len(thresholds)} "
            f"thresholds. Received: {name}.shape={array.shape}."
        )
    return array


def _check_speeds(name: str, speeds: np.ndarray) -> None:
    if not (np.isfinite(speeds) & (speeds > 0)).all():
        raise ValueError(
            f"`{name}` must be positive and finite. Received: "
            f"{name}={speeds.tolist()}."
        )


def _find(thresholds: np.ndarray, certified: float | None) -> int | None:
    """Returns the index of the certified threshold."""
    if certified is None:
        return None
    # Compare within a tolerance: one of the two may be rounded to float32.
    found = np.flatnonzero(np.isclose(thresholds, certified, rtol=1e-6))
    if not len(found):
        raise ValueError(
            "`certified_threshold` must be one of `thresholds`. Received: "
            f"certified_threshold={certified}, thresholds="
            f"{thresholds.tolist()}."
        )
    return int(found[np.argmin(np.abs(thresholds[found] - certified))])


def _to_baselines(
    baselines: Mapping[str, tuple[float, float]],
) -> dict[str, tuple[float, float]]:
    checked = {}
    for name, point in baselines.items():
        pair = np.asarray(point, np.float64)
        if pair.shape != (2,):
            raise ValueError(
                f"`baselines[{name!r}]` must be a pair (speed, risk). "
                f"Received: {point!r}."
            )
        _check_speeds(f"baselines[{name!r}] speed", pair[0])
        check_in_unit_interval(f"baselines[{name!r}] risk", pair[1])
        checked[name] = (float(pair[0]), float(pair[1]))
    return checked


def _draw_band(
    axes: "Axes", speed: np.ndarray, risk: np.ndarray, bounds: np.ndarray
) -> None:
    axes.fill_between(
        speed,
        risk,
        bounds,
        color=_CURVE,
        alpha=0.15,
        linewidth=0,
        label="up to the upper bound",
        gid="bounds",
    )


def _draw_curve(
    axes: "Axes",
    speed: np.ndarray,
    risk: np.ndarray,
    p_values: np.ndarray | None,
    level: float,
) -> None:
    axes.plot(speed, risk, color=_CURVE, linewidth=1.2, gid="curve")
    if p_values is None:
        groups = [("a threshold", np.full(len(risk), True), _CURVE)]
    else:
        passed = p_values <= level
        groups = [
            (f"p-value up to {level:.4g}", passed, _CURVE),
            (f"p-value above {level:.4g}", ~passed, "white"),
        ]
    for name, chosen, face in groups:
        if chosen.any():
            axes.plot(
                speed[chosen],
                risk[chosen],
                "o",
                color=_CURVE,
                markerfacecolor=face,
                markersize=5,
                label=name,
                gid=name,
            )


def _label(
    figure: "Figure",
    axes: "Axes",
    thresholds: np.ndarray,
    speed: np.ndarray,
    risk: np.ndarray,
    tolerance: float,
    certified: int | None,
    baselines: dict[str, tuple[float, float]],
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)  # adjustText measures with it
    figure.draw_without_rendering()  # where the axes come to lie
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    points = list(zip(speed, risk, strict=True))
    labels = []
    if certified is not None:
        labels.append(
            axes.annotate(
                f"certified: threshold {thresholds[certified]:.4g}",
                points[certified],
                weight="bold",
                gid="certified label",
            )
        )
    for name, point in baselines.items():
        labels.append(
            axes.annotate(
                name,
                point,
                parse_math=False,
                size="small",
                color=_BASELINE,
                gid="baseline label",
            )
        )
    required = len(labels)
    pixels = axes.transData.transform(points)
    for i in _far_apart(pixels, [] if certified is None else [certified]):
        labels.append(
            axes.annotate(
                f"{thresholds[i]:.3g}",
                points[i],
                size="small",
                color=_CURVE,
                gid="threshold label",
            )
        )
    level = np.array([(x, tolerance) for x in axes.get_xlim()])
    place_labels(
        axes,
        labels,
        required,
        lines=[np.array(points), level],
        markers=[*points, *baselines.values()],
    )


def _far_apart(pixels: np.ndarray, taken: list[int]) -> list[int]:
    """Returns the indices of points that lie apart, and of both ends."""
    ends = {0, len(pixels) - 1}
    chosen = sorted(ends.union(taken))
    for i in range(len(pixels)):
        gaps = np.hypot(*(pixels[chosen] - pixels[i]).T)
        if (gaps >= _APART).all():
            chosen.append(i)
    # Labels of the ends come first, since later ones give way to them.
    return [i for i in chosen if i not in taken]
