"""Labels beside points of a curve, where there is room for them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any
from typing import Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Where to try, one after the other, in points from the point: aside, above,
# below; near, then far.
_OFFSETS = [
    (x * reach, y * reach)
    for reach in (1.0, 1.8, 3.0, 5.0)
    for x, y in (
        (7, 6),
        (7, -6),
        (-7, 6),
        (-7, -6),
        (0, 9),
        (0, -9),
        (10, 0),
        (-10, 0),
    )
]
_SIDES: dict[int, Literal["left", "center", "right"]] = {
    1: "left",
    0: "center",
    -1: "right",
}
_LEVELS: dict[int, Literal["bottom", "center", "top"]] = {
    1: "bottom",
    0: "center",
    -1: "top",
}
_NEAR = 8  # the offsets that an optional label may take
_STEP = 3.0  # pixels between samples of a line
_MARKER = 5.0  # half the width of a marker, in pixels


class LabelPlacement:
    """Finds room for labels in axes.

    Labels keep clear of each other, of markers and of lines, and stay within
    the axes. Make it when all else is drawn and the limits are fixed, and
    place the most important label first.

    Args:
        axes: Matplotlib axes.
        renderer: what measures texts.
        lines: arrays `[n, 2]` in data units that labels must not cross.
        markers: points `(x, y)` in data units that they must not cover.
    """

    def __init__(
        self,
        axes: "Axes",
        renderer: "RendererBase",
        lines: Iterable[np.ndarray],
        markers: Iterable[tuple[float, float]],
    ):
        self._axes = axes
        self._renderer = renderer
        to_pixels = axes.transData.transform
        corners = np.array([(x, y) for x in (-1, 1) for y in (-1, 1)])
        pieces = [_sampled(to_pixels(line)) for line in lines]
        pieces += [to_pixels(m) + _MARKER * corners for m in markers]
        self._obstacles = np.concatenate([np.empty((0, 2)), *pieces])
        self._taken: list[Bbox] = []

    def place(
        self,
        text: str,
        point: tuple[float, float],
        required: bool = False,
        **style: Any,
    ) -> "Annotation | None":
        """Adds a label beside a point.

        Args:
            text: what to write, not as a formula.
            point: where, in data units.
            required: whether to take the least bad place where none is free,
                and to look further away, too.
            **style: of `matplotlib.text.Text`.

        Returns:
            The annotation, or `None` where there was no room.
        """
        label = self._axes.annotate(
            text,
            point,
            xytext=(0, 0),
            textcoords="offset points",
            parse_math=False,
            **style,
        )
        label.set_in_layout(False)
        least = float("inf")
        for offset in _OFFSETS if required else _OFFSETS[:_NEAR]:
            _move(label, offset)
            cost = self._cost(label.get_window_extent(self._renderer))
            if cost < least:
                least, best = cost, offset
            if cost == 0:
                break
        if least and not required:
            label.remove()
            return None
        _move(label, best)
        self._taken.append(label.get_window_extent(self._renderer))
        return label

    def _cost(self, box: "Bbox") -> float:
        """Counts what a label would cover; what sticks out counts most."""
        outer = self._axes.bbox
        out = (
            max(outer.x0 - box.x0, 0)
            + max(box.x1 - outer.x1, 0)
            + max(outer.y0 - box.y0, 0)
            + max(box.y1 - outer.y1, 0)
        )
        x, y = self._obstacles.T
        crossed = (
            (x > box.x0) & (x < box.x1) & (y > box.y0) & (y < box.y1)
        ).sum()
        hidden = sum(box.padded(2).overlaps(other) for other in self._taken)
        return 100 * out + 20 * hidden + float(crossed)


def _move(label: "Annotation", offset: tuple[float, float]) -> None:
    x, y = offset
    label.set_position(offset)
    label.set_horizontalalignment(_SIDES[int(np.sign(x))])
    label.set_verticalalignment(_LEVELS[int(np.sign(y))])


def _sampled(line: np.ndarray) -> np.ndarray:
    """Adds points to a line until they are dense."""
    pieces = [line]
    for start, end in zip(line[:-1], line[1:], strict=True):
        count = int(np.hypot(*(end - start)) / _STEP) + 1
        pieces.append(np.linspace(start, end, count, endpoint=False))
    return np.concatenate(pieces)
