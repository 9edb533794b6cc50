import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_moe.visualization._label_placement import LabelPlacement


def make(lines=(), markers=()):
    figure = Figure((4, 4))
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    return axes, LabelPlacement(axes, renderer, lines, markers)


def test_keeps_clear_of_a_line_between_its_ends():
    # No end of the line is near, but it passes above the point.
    line = np.array([[0.0, 0.55], [1.0, 0.55]])
    axes, placement = make([line])
    box = placement.place("label", (0.5, 0.5)).get_window_extent()
    assert box.y1 < axes.transData.transform((0, 0.55))[1]


@pytest.mark.parametrize("point", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_stays_within_the_axes(point):
    axes, placement = make()
    box = placement.place("label", point).get_window_extent()
    assert axes.bbox.contains(box.x0, box.y0)
    assert axes.bbox.contains(box.x1, box.y1)


def test_labels_of_one_point_part_until_there_is_no_room():
    axes, placement = make()
    labels = [placement.place("label", (0.5, 0.5)) for _ in range(30)]
    placed = [label for label in labels if label is not None]
    assert 2 <= len(placed) < 30
    assert list(axes.texts) == placed  # the others are gone
    boxes = [label.get_window_extent() for label in placed]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    # A required one looks further.
    box = placement.place("x", (0.5, 0.5), required=True).get_window_extent()
    assert not any(box.overlaps(other) for other in boxes)


def test_a_required_label_is_placed_where_nothing_is_free():
    x = np.linspace(0, 1, 150)
    lines = [np.array([[0, y], [1, y]]) for y in x]
    axes, placement = make(lines)
    assert placement.place("label", (0.5, 0.5)) is None
    assert placement.place("label", (0.5, 0.5), required=True) in list(
        axes.texts
    )


def test_covers_no_marker():
    axes, placement = make(markers=[(0.5, 0.5), (0.56, 0.54)])
    box = placement.place("label", (0.5, 0.5)).get_window_extent()
    for marker in ((0.5, 0.5), (0.56, 0.54)):
        assert not box.contains(*axes.transData.transform(marker))
