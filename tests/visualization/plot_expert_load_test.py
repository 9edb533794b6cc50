import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from keras_moe.visualization import LayerLoads
from keras_moe.visualization import plot_expert_load


def make(*loads, names=None, dropped=None):
    return LayerLoads(
        names=tuple(names or (f"layer_{i}" for i in range(len(loads)))),
        loads=tuple(np.array(load, "float32") for load in loads),
        dropped=tuple(dropped or [0.0] * len(loads)),
    )


def texts(axes):
    return [text.get_text() for text in axes.texts]


def frames(axes):
    """The cells of dead experts, as (layer, expert)."""
    return [
        (round(p.get_y() + p.get_height() / 2), round(p.get_x() + 0.5))
        for p in axes.patches
        if isinstance(p, Rectangle)
    ]


def test_cells_frames_names_and_shares():
    loads = make(
        [0.5, 0.25, 0.25, 0.0],
        [0.0, 1.0],
        names=["model/encoder/moe", "model/decoder/moe"],
        dropped=[0.125, 0.0],
    )
    figure = plot_expert_load(loads, title="Epoch 3")
    heat, bars, scale = figure.axes
    np.testing.assert_array_equal(
        heat.images[0].get_array().filled(np.nan),
        # Over even: 1 is even. Dead or missing experts have no colour.
        [[2, 1, 1, np.nan], [np.nan, 2, np.nan, np.nan]],
    )
    assert texts(heat) == ["2.0", "1.0", "1.0", "2.0"]
    assert frames(heat) == [(0, 3), (1, 0)]
    assert "no token" in heat.get_xlabel()
    labels = [label.get_text() for label in heat.get_yticklabels()]
    assert labels == ["encoder", "decoder"]
    assert texts(bars) == ["12.5 %", "0.0 %"]
    assert [bar.get_width() for bar in bars.patches] == [12.5, 0.0]
    assert figure.get_suptitle() == "Epoch 3"
    assert scale.get_xlabel() == "load over an even load"


def test_white_is_even_and_the_colours_are_far_apart():
    figure = plot_expert_load(make([0.125, 0.5, 0.125, 0.25]))
    image = figure.axes[0].images[0]
    half, double, _, even = image.cmap(image.norm([0.5, 2, 0.5, 1]))[:, :3]
    assert even.min() > 0.95
    # A palette on which red-green blindness has no hold: what differs is
    # blue against yellow.
    assert half[2] > half[0] and double[0] > double[2]
    # Twice and half are equally far from even.
    assert image.norm(2) - 0.5 == pytest.approx(0.5 - image.norm(0.5))
    assert not frames(figure.axes[0])
    assert "no token" not in figure.axes[0].get_xlabel()


@pytest.mark.parametrize("experts", [1, 16, 17, 300])
def test_any_number_of_experts_fits(experts):
    figure = plot_expert_load(make(*[np.full(experts, 1 / experts)] * 3))
    assert len(texts(figure.axes[0])) == (3 * experts if experts <= 16 else 0)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert 5 < width < 16 and 2 < height < 4


def test_names_are_cut_only_where_they_agree():
    def labels(*names):
        figure = plot_expert_load(make(*[[1.0]] * len(names), names=names))
        ticks = figure.axes[0].get_yticklabels()
        return [label.get_text() for label in ticks]

    assert labels("a/b/moe", "a/c/moe") == ["b", "c"]
    assert labels("a/b/moe", "c/moe") == ["a/b", "c"]
    assert labels("first", "second") == ["first", "second"]
    assert labels("model/moe") == ["model/moe"]
    assert labels("a/b", "a/b/c") == ["b", "b/c"]


def test_a_layer_without_tokens_has_only_dead_experts():
    figure = plot_expert_load(make([0.0, 0.0]))
    assert frames(figure.axes[0]) == [(0, 0), (0, 1)]


def test_draws_into_a_figure_and_opens_none(tmp_path):
    mine = Figure((4, 3))
    assert plot_expert_load(make([0.5, 0.5]), figure=mine) is mine
    assert len(mine.axes) == 3
    mine.savefig(tmp_path / "load.png")
    if "matplotlib.pyplot" in sys.modules:
        from matplotlib import pyplot

        assert not pyplot.get_fignums()


def test_from_a_history():
    history = {
        "loss": [1.0, 0.5],
        "moe/expert_load": [[1.0, 0.0], [0.5, 0.5]],
        "moe/fraction_tokens_left_behind": [0.25, 0.0],
    }
    last = plot_expert_load(history)
    assert texts(last.axes[0]) == ["1.0", "1.0"]
    assert texts(last.axes[1]) == ["0.0 %"]
    first = plot_expert_load(history, epoch=0)
    assert texts(first.axes[0]) == ["2.0"]
    assert texts(first.axes[1]) == ["25.0 %"]


def test_errors():
    with pytest.raises(ValueError, match="`history` must hold expert loads"):
        plot_expert_load({"loss": [1.0]})
    history = {
        "moe/expert_load": [[1.0]],
        "moe/fraction_tokens_left_behind": [0.0],
    }
    for epoch in (1, -2):
        with pytest.raises(ValueError, match="`epoch` must be one of the 1"):
            plot_expert_load(history, epoch=epoch)
    with pytest.raises(ValueError, match="`data` must be given with a model"):
        plot_expert_load(history, np.ones((1, 2)))
    with pytest.raises(ValueError, match="one entry per layer each"):
        LayerLoads(("a", "b"), (np.ones(1),), (0.0,))
