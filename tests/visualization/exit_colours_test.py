import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from keras_moe.visualization._exit_colours import exit_colours
from keras_moe.visualization._exit_colours import ink_on

# Machado et al., 2009: what the colour-blind see, in linear RGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(colour):
    return np.array(
        [
            c / 12.92 if c < 0.04 else ((c + 0.055) / 1.055) ** 2.4
            for c in colour
        ]
    )


def lightness(colour, sight="full"):
    """CIELAB's, from 0 to 100."""
    seen = np.clip(np.array(SIGHT[sight]) @ linear(to_rgb(colour)), 0, 1)
    return 116 * (seen @ [0.2126, 0.7152, 0.0722]) ** (1 / 3) - 16


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("num_layers", [2, 3, 8, 12, 24, 48])
def test_deeper_is_darker_for_every_eye(num_layers, sight):
    colours = exit_colours(num_layers)
    assert len(colours) == num_layers
    steps = -np.diff([lightness(c, sight) for c in colours])
    assert steps.min() > 0.5 * 80 / num_layers  # and evenly so
    assert lightness(colours[0]) > 90 and lightness(colours[-1]) < 15


def test_one_layer_has_one_colour():
    assert exit_colours(1) == exit_colours(8)[:1]


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_ink_is_readable_on_any_colour(channels):
    ink = ink_on("#" + bytes(channels).hex())
    assert ink in ("#000000", "#ffffff")
    below = linear(np.array(channels) / 255) @ [0.2126, 0.7152, 0.0722]
    dark, light = sorted([below, float(ink == "#ffffff")])
    assert (light + 0.05) / (dark + 0.05) >= 4.5
