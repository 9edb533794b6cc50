import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.image import imread

from keras_moe.visualization import plot_exit_depth
from keras_moe.visualization._exit_colours import exit_colours
from keras_moe.visualization._exit_colours import ink_on

TOKENS = [["F", "OW", "T", "AH", "G", "R", "AE", "F"], ["K", "AE", "T", ""]]
LAYERS = [[1, 5, 1, 4, 2, 1, 3, 8], [1, 2, 1, 0]]
LABELS = ["photograph", "cat"]


def written(figure, gid):
    return [t for t in figure.axes[0].texts if t.get_gid() == gid]


def texts(figure, gid):
    return [t.get_text() for t in written(figure, gid)]


def boxes(figure):
    """The cells, as Bbox in pixels."""
    return [patch.get_window_extent() for patch in figure.axes[0].patches]


def extents(figure):
    """The texts of the page, as Bbox in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [
        t.get_window_extent(renderer)
        for t in [*figure.axes[0].texts, *figure.texts]
        if t.get_text()
    ]


def test_cells_tokens_numbers_means_and_labels():
    figure = plot_exit_depth(TOKENS, LAYERS, 8, title="Exits", labels=LABELS)
    page, scale = figure.axes
    depths = [d for row in LAYERS for d in row if d]
    colours = exit_colours(8)
    faces = [to_hex(p.get_facecolor()) for p in page.patches]
    assert faces == [colours[d - 1] for d in depths]
    emitted = [t for row in TOKENS for t in row if t]
    assert texts(figure, "token") == emitted
    assert texts(figure, "layer") == [str(d) for d in depths]
    for gid in ("token", "layer"):
        inks = [to_hex(t.get_color()) for t in written(figure, gid)]
        assert inks == [ink_on(face) for face in faces]
    assert texts(figure, "mean") == ["3.1", "1.3"]
    assert texts(figure, "label") == LABELS
    assert figure.get_suptitle() == "Exits"
    assert scale.get_xlabel() == "exit layer"
    ticks = [label.get_text() for label in scale.get_xticklabels()]
    assert [t for t in ticks if t] == [str(layer) for layer in range(1, 9)]


def test_the_bar_has_the_colours_of_the_cells():
    figure = plot_exit_depth([["a"] * 5], [[1, 2, 3, 4, 5]], 5)
    page, scale = figure.axes
    (mesh,) = (c for c in scale.collections if c.get_array() is not None)
    mesh.update_scalarmappable()
    bar = mesh.to_rgba(mesh.get_array().ravel())
    np.testing.assert_allclose(bar, [p.get_facecolor() for p in page.patches])


@pytest.mark.parametrize("num_layers", [1, 16, 17, 24, 48])
def test_the_bar_names_the_first_and_last_layer(num_layers):
    scale = plot_exit_depth([["a"]], [[1]], num_layers).axes[1]
    ticks = [int(tick) for tick in scale.get_xticks()]
    assert ticks[0] == 1 and ticks[-1] == num_layers
    assert len(ticks) == len(set(ticks)) <= 16
    assert num_layers > 16 or len(ticks) == num_layers


def test_everything_is_in_its_place():
    tokens = ["▁The", "▁extraordinarily", "▁$5", "▁or", "▁$6", "\n", "g_j"] * 7
    figure = plot_exit_depth(
        [tokens, tokens[:3], [""]],
        [[i % 12 + 1 for i in range(49)], [1, 2, 3], [0]],
        12,
        title="A title that is rather longer than the first few cells are",
        labels=["a", "very long label", "none"],
        max_width=5,
    )
    page, scale = figure.axes
    cells = boxes(figure)
    for cell, token, layer in zip(
        cells, written(figure, "token"), written(figure, "layer"), strict=True
    ):
        for text in (token, layer):
            box = text.get_window_extent()
            assert cell.x0 < box.x0 and box.x1 < cell.x1
            assert cell.y0 < box.y0 and box.y1 < cell.y1
    everything = cells + [scale.bbox]
    for i, cell in enumerate(everything):
        assert not any(cell.overlaps(other) for other in everything[:i])
    labels = [t.get_window_extent() for t in written(figure, "label")]
    means = [t.get_window_extent() for t in written(figure, "mean")]
    assert max(x.x1 for x in labels) < min(x.x0 for x in cells)
    assert max(x.x1 for x in cells) < min(x.x0 for x in means)
    assert max(x.x1 for x in cells) - min(x.x0 for x in cells) < 5 * figure.dpi
    assert texts(figure, "mean")[1:] == ["2.0", "–"]
    for box in extents(figure):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    # Dollars are dollars, not the ends of a formula.
    assert "▁$5" in texts(figure, "token")
    assert not any(t.get_parse_math() for t in written(figure, "token"))


def test_rows_are_in_order_and_wrap_in_order():
    figure = plot_exit_depth([["a"] * 20, ["b"]], [[1] * 20, [1]], 2)
    cells = boxes(figure)
    tops = [cell.y1 for cell in cells]
    assert tops[0] == tops[19] > tops[20]
    narrow = boxes(
        plot_exit_depth([["a"] * 20, ["b"]], [[1] * 20, [1]], 2, max_width=2)
    )
    keys = [(-round(cell.y1), cell.x0) for cell in narrow]
    assert keys == sorted(keys)
    assert len({y for y, _ in keys}) > 4


def test_a_token_wider_than_a_line_has_a_line_of_its_own():
    figure = plot_exit_depth(
        [["a", "b" * 60, "c"]], [[1, 1, 1]], 1, max_width=1
    )
    assert len({round(cell.y1) for cell in boxes(figure)}) == 3


def test_writes_a_png_and_opens_no_window(tmp_path):
    path = tmp_path / "exits.png"
    figure = plot_exit_depth(TOKENS, LAYERS, 8, path, dpi=50)
    assert list(tmp_path.iterdir()) == [path]
    image = imread(path)
    size = figure.get_size_inches() * 50
    np.testing.assert_allclose(image.shape[1::-1], size, atol=1)
    # In the file, too, there are the colours of all eight layers.
    seen = {to_hex(pixel) for pixel in image.reshape(-1, image.shape[-1])}
    used = {d for row in LAYERS for d in row if d}
    assert {exit_colours(8)[d - 1] for d in used} <= seen
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        assert not pyplot.get_fignums()


def test_bad_input_writes_nothing(tmp_path):
    path = tmp_path / "exits.png"
    with pytest.raises(ValueError, match="must be in .0, num_layers"):
        plot_exit_depth(TOKENS, LAYERS, 7, path)
    with pytest.raises(ValueError, match="must end in '.png'"):
        plot_exit_depth(TOKENS, LAYERS, 8, tmp_path / "exits.svg")
    with pytest.raises(ValueError, match="`max_width` must be positive"):
        plot_exit_depth(TOKENS, LAYERS, 8, path, max_width=0)
    with pytest.raises(ValueError, match="`dpi` must be positive"):
        plot_exit_depth(TOKENS, LAYERS, 8, path, dpi=-1)
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        plot_exit_depth(TOKENS, LAYERS, 8, tmp_path / "none" / "exits.png")
    assert not list(tmp_path.iterdir())
