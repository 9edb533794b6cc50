import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keras_moe.visualization._label_placement import place_labels


def place(points, required=0, lines=(), markers=()):
    """Labels a label in axes of 320 pixels each way; returns those placed."""
    figure = Figure((4, 4))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    labels = [axes.annotate("label", point) for point in points]
    place_labels(axes, labels, required, lines, markers)
    assert set(axes.texts) <= set(labels)  # none is added
    return axes, list(axes.texts)


def boxes_of(labels):
    return [label.get_window_extent() for label in labels]


def test_keeps_clear_of_a_line_between_its_ends():
    # No end of the line is near, but it passes through the label.
    line = np.array([[0.0, 0.51], [1.0, 0.51]])
    axes, labels = place([(0.5, 0.5)], lines=[line])
    (box,) = boxes_of(labels)
    level = axes.transData.transform((0, 0.51))[1]
    assert box.y1 < level or box.y0 > level


@pytest.mark.parametrize("point", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_stays_within_the_axes(point):
    axes, labels = place([point])
    (box,) = boxes_of(labels)
    assert axes.bbox.contains(box.x0, box.y0)
    assert axes.bbox.contains(box.x1, box.y1)


def test_labels_of_one_point_part():
    _, labels = place([(0.5, 0.5)] * 8)
    assert len(labels) == 8
    boxes = boxes_of(labels)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_only_required_labels_stay_where_nothing_is_free():
    lines = [np.array([[0, y], [1, y]]) for y in np.linspace(0, 1, 30)]
    _, labels = place([(0.2, 0.5), (0.5, 0.5), (0.8, 0.5)], 2, lines)
    assert [label.xy for label in labels] == [(0.2, 0.5), (0.5, 0.5)]
    assert not place([(0.5, 0.5)], 0, lines)[1]


def test_covers_no_marker():
    markers = [(0.5, 0.5), (0.56, 0.54)]
    axes, labels = place(markers[:1], markers=markers)
    (box,) = boxes_of(labels)
    for marker in markers:
        assert not box.contains(*axes.transData.transform(marker))


def test_the_same_labels_lie_in_the_same_places():
    points = [(0.5, 0.5), (0.5, 0.5), (0.52, 0.5), (0.9, 0.1)]
    _, one = place(points)
    _, other = place(points)
    for a, b in zip(boxes_of(one), boxes_of(other), strict=True):
        np.testing.assert_array_equal(a.get_points(), b.get_points())


def test_no_label_is_no_error():
    assert place([])[1] == []


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "adjustText", None)
    with pytest.raises(ImportError, match=r"adjustText.*keras-moe\[viz\]"):
        place([(0.5, 0.5)])
