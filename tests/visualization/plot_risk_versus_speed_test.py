import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from keras_moe.visualization import plot_risk_versus_speed

THRESHOLDS = np.linspace(1, 0, 11)
RISKS = 0.3 * (1 - THRESHOLDS) ** 2
SPEEDS = 1 + 7 * THRESHOLDS


def draw(**kwargs):
    kwargs = {
        "thresholds": THRESHOLDS,
        "risks": RISKS,
        "speeds": SPEEDS,
        "tolerance": 0.05,
        **kwargs,
    }
    return plot_risk_versus_speed(**kwargs)


def line(figure, gid):
    (found,) = (x for x in figure.axes[0].lines if x.get_gid() == gid)
    return found


def points(figure, gid):
    return line(figure, gid).get_xydata()


def notes(figure, gid):
    return [t for t in figure.axes[0].texts if t.get_gid() == gid]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_curve_tolerance_and_certified_point():
    figure = draw(certified_threshold=0.6, title="Exits")
    axes = figure.axes[0]
    expected = np.stack([SPEEDS, RISKS], -1)
    np.testing.assert_allclose(points(figure, "curve"), expected[::-1])
    np.testing.assert_allclose(points(figure, "a threshold"), expected[::-1])
    np.testing.assert_array_equal(points(figure, "tolerance")[:, 1], 0.05)
    np.testing.assert_allclose(points(figure, "certified"), expected[4:5])
    (note,) = notes(figure, "certified label")
    assert note.get_text() == "certified: threshold 0.6"
    np.testing.assert_allclose(note.xy, expected[4])
    assert axes.get_xlabel() == "mean exit layer"
    assert axes.get_ylabel() == "mean loss (risk)"
    assert axes.get_title(loc="left") == "Exits"
    assert legend(figure) == ["a threshold", "tolerance 0.05", "certified"]


def test_nothing_certified_marks_nothing():
    figure = draw(speed_label="speed-up")
    assert not notes(figure, "certified label")
    assert "certified" not in legend(figure)
    assert figure.axes[0].get_xlabel() == "speed-up"


def test_the_order_of_the_thresholds_does_not_matter():
    order = np.random.permutation(len(THRESHOLDS))
    p_values = np.linspace(0, 0.1, len(THRESHOLDS))
    bounds = RISKS + p_values
    one = draw(p_values=p_values, upper_bounds=bounds, certified_threshold=0.6)
    other = draw(
        thresholds=THRESHOLDS[order],
        risks=RISKS[order],
        speeds=SPEEDS[order],
        p_values=p_values[order],
        upper_bounds=bounds[order],
        certified_threshold=np.float32(0.6),
    )
    for gid in ("curve", "certified", "p-value up to 0.05"):
        np.testing.assert_array_equal(points(one, gid), points(other, gid))
    paths = [f.axes[0].collections[0].get_paths()[0] for f in (one, other)]
    np.testing.assert_array_equal(paths[0].vertices, paths[1].vertices)


def test_p_values_fill_the_points_that_pass():
    level = 1 - 0.9  # as `calibrate` has it: the bound itself passes
    p_values = np.where(THRESHOLDS > 0.45, level, np.nextafter(level, 1))
    figure = draw(p_values=p_values, confidence_level=0.9)
    passed = points(figure, "p-value up to 0.1")
    failed = points(figure, "p-value above 0.1")
    np.testing.assert_allclose(sorted(passed[:, 0]), sorted(SPEEDS[:6]))
    np.testing.assert_allclose(sorted(failed[:, 0]), sorted(SPEEDS[6:]))
    faces = [
        to_hex(line(figure, f"p-value {which} 0.1").get_markerfacecolor())
        for which in ("up to", "above")
    ]
    assert faces[1] == "#ffffff" != faces[0]
    # A group without a point is not in the legend.
    assert "p-value above 0.05" not in legend(draw(p_values=0 * p_values))


def test_upper_bounds_are_the_top_of_a_band():
    figure = draw(upper_bounds=RISKS + 0.04)
    (band,) = figure.axes[0].collections
    vertices = band.get_paths()[0].vertices
    for x, low in zip(SPEEDS, RISKS, strict=True):
        there = vertices[np.isclose(vertices[:, 0], x), 1]
        np.testing.assert_allclose(
            [there.min(), there.max()], [low, low + 0.04]
        )
    assert "up to the upper bound" in legend(figure)


def test_baselines_are_named_crosses():
    baselines = {"cut at layer 2": (2.0, 0.4), "a $5 model": (4, 0.2)}
    figure = draw(baselines=baselines)
    np.testing.assert_array_equal(
        points(figure, "baselines"), list(baselines.values())
    )
    assert line(figure, "baselines").get_marker() == "x"
    names = notes(figure, "baseline label")
    assert {t.get_text(): t.xy for t in names} == baselines
    # Beyond the curve, and in the picture.
    assert figure.axes[0].get_ylim()[1] > 0.4


@pytest.mark.parametrize("count", [1, 2, 11, 400])
def test_labels_are_few_true_and_apart(count):
    thresholds = np.linspace(1, 0, count)
    figure = draw(
        thresholds=thresholds,
        risks=0.3 * (1 - thresholds) ** 2,
        speeds=1 + 7 * thresholds,
        certified_threshold=thresholds[count // 2] if count > 2 else None,
        baselines={"near the curve": (4.5, 0.08)},
    )
    labels = notes(figure, "threshold label")
    assert 1 <= len(labels) <= 15
    for label in labels:
        assert 1 + 7 * float(label.get_text()) == pytest.approx(
            label.xy[0], abs=0.01
        )
    shown = {float(label.get_text()) for label in labels}
    assert {thresholds[0], thresholds[-1]} <= shown
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    curve = figure.axes[0].transData.transform(points(figure, "curve"))
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert figure.axes[0].bbox.contains(box.x0, box.y0)
        assert figure.axes[0].bbox.contains(box.x1, box.y1)
        assert not any(box.contains(x, y) for x, y in curve)


def test_writes_a_png_and_opens_no_window(tmp_path):
    path = tmp_path / "risk.png"
    draw(path=path, dpi=40, certified_threshold=0.6)
    assert list(tmp_path.iterdir()) == [path]
    image = imread(path)
    assert image.shape[:2] == (200, 280) and image.std() > 0
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        assert not pyplot.get_fignums()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"thresholds": []}, "`thresholds` must have the shape"),
        ({"thresholds": [0.5] * 11}, "`thresholds` must be distinct"),
        ({"risks": RISKS[:-1]}, r"`risks` must have one entry.*11.*\(10,\)"),
        ({"speeds": [1.0]}, r"`speeds` must have one entry.*\(1,\)"),
        ({"p_values": [0.1]}, "`p_values` must have one entry"),
        ({"upper_bounds": [0.1]}, "`upper_bounds` must have one entry"),
        ({"risks": RISKS + 0.9}, r"`risks` must be in \[0, 1\]"),
        ({"risks": RISKS * np.nan}, r"`risks` must be in \[0, 1\]"),
        ({"p_values": SPEEDS}, r"`p_values` must be in \[0, 1\]"),
        ({"upper_bounds": RISKS - 1e-3}, r"`upper_bounds` must be in"),
        ({"upper_bounds": 0.9 * RISKS}, "must not be below `risks`"),
        ({"speeds": SPEEDS * 0}, "`speeds` must be positive and finite"),
        ({"speeds": SPEEDS * np.inf}, "`speeds` must be positive and finite"),
        ({"tolerance": 1.0}, "`tolerance` must be between 0 and 1"),
        ({"confidence_level": 0}, "`confidence_level` must be between 0 and 1"),
        ({"certified_threshold": 0.55}, "must be one of `thresholds`.*0.55"),
        ({"baselines": {"a": (1, 2, 3)}}, r"\['a'\]` must be a pair"),
        ({"baselines": {"a": (0, 0.1)}}, r"\['a'\] speed` must be positive"),
        ({"baselines": {"a": (1, 1.1)}}, r"\['a'\] risk` must be in \[0, 1\]"),
        ({"dpi": 0}, "`dpi` must be positive"),
        ({"path": "risk.svg"}, "must end in '.png'"),
    ],
)
def test_errors(given, message, tmp_path):
    given = {"path": tmp_path / "risk.png", **given}
    with pytest.raises(ValueError, match=message):
        draw(**given)
    assert not list(tmp_path.iterdir())
