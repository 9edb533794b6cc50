import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_moe.visualization import plot_feature_curve

SCORES = {4: 0.8, 1: 0.4, 2: 0.6}


def test_points_in_order_and_a_line_for_all(tmp_path):
    path = tmp_path / "curve.png"
    figure = plot_feature_curve(SCORES, 0.85, title="Digits", path=path)
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    curve, line = axes.lines
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2, 4])
    np.testing.assert_array_equal(curve.get_ydata(), [0.4, 0.6, 0.8])
    assert set(line.get_ydata()) == {0.85}
    assert axes.get_title() == "Digits" and axes.get_ylabel() == "accuracy"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_a_line():
    (axes,) = plot_feature_curve({3: 0.1}, score_label="r2").axes
    assert len(axes.lines) == 1 and axes.get_ylabel() == "r2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scores": {}}, "`scores` must be some"),
        ({"scores": {1: np.nan}}, "finite. Received: scores={1: nan}"),
        ({"score_of_all": np.inf}, "score_of_all=inf"),
        ({"scores": {0: 0.5}}, "scores=0"),
        ({"path": "curve.jpg"}, "must end in '.png'"),
        ({"dpi": 0}, "dpi=0"),
    ],
)
def test_what_cannot_be_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        plot_feature_curve(**{"scores": SCORES, **options})
