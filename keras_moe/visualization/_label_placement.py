"""Labels of points of a curve, moved apart by adjustText."""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_STEP = 6.0  # pixels between samples of a line
# adjustText stops after a second by default: on a busy machine the picture
# would be another one.
_ITERATIONS = 300


def place_labels(
    axes: "Axes",
    labels: Sequence["Annotation"],
    required: int,
    lines: Iterable[np.ndarray],
    markers: Iterable[tuple[float, float]],
) -> None:
    """Moves labels until they cover no line, no marker and no other label.

    Call it when all else is drawn and the limits are fixed.

    Args:
        axes: Matplotlib axes; the figure needs a canvas that can draw.
        labels: annotations that lie on their points, in data units, the most
            important first. A label that finds no room is removed.
        required: how many of the first labels stay in any case.
        lines: arrays `[n, 2]` in data units that labels must not cross.
        markers: points `(x, y)` in data units that labels must not cover.

    Raises:
        ImportError: if adjustText is not installed.
    """
    try:
        from adjustText import adjust_text
    except ModuleNotFoundError as error:
        raise ImportError(
            "Labels are placed by adjustText. Install it with "
            "`pip install keras-moe[viz]`."
        ) from error
    for label in labels:
        label.set_in_layout(False)  # a layout would shrink the axes for it
    to_pixels = axes.transData.transform
    obstacles = np.concatenate(
        [np.empty((0, 2))]
        + [_sampled(to_pixels(line)) for line in lines]
        + [to_pixels([marker]) for marker in markers]
    )
    # adjustText adds up the forces of all obstacles: dense ones would throw
    # labels about, so keep one obstacle a cell.
    cells = np.round(obstacles / _STEP)
    apart = obstacles[np.unique(cells, axis=0, return_index=True)[1]]
    adjust_text(
        list(labels),
        *axes.transData.inverted().transform(apart).T,
        ax=axes,
        iter_lim=_ITERATIONS,
    )
    taken: list[Bbox] = []
    for i, label in enumerate(labels):
        box = label.get_window_extent()
        free = not (
            any(box.overlaps(other) for other in taken)
            or any(box.contains(x, y) for x, y in obstacles)
        )
        if free or i < required:
            taken.append(box)
        else:
            label.remove()


def _sampled(line: np.ndarray) -> np.ndarray:
    """Adds points to a line until they are dense: adjustText avoids points."""
    pieces = [line]
    for start, end in zip(line[:-1], line[1:], strict=True):
        count = int(np.hypot(*(end - start)) / _STEP) + 1
        pieces.append(np.linspace(start, end, count, endpoint=False))
    return np.concatenate(pieces)
