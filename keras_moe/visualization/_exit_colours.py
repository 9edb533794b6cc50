"""One colour for each layer at which a token may leave the decoder."""

import numpy as np

# From yellow by green to blue, with evenly falling lightness (CIELAB 96 to 10):
# the order stays visible for every kind of colour vision, and in black and
# white print.
_STOPS = ("#f7f3c6", "#b5ddb0", "#56b3ae", "#2b7ba8", "#27408b", "#1a1442")


def exit_colours(num_layers: int) -> list[str]:
    """Returns a colour `"#rrggbb"` for each layer, from light to dark.

    Args:
        num_layers: number of layers of the decoder.
    """
    stops = np.array([_channels(stop) for stop in _STOPS])
    at = np.linspace(0, len(_STOPS) - 1, num_layers)
    mixed = np.stack(
        [np.interp(at, range(len(_STOPS)), channel) for channel in stops.T], -1
    )
    return ["#" + bytes(row).hex() for row in mixed.round().astype(np.uint8)]


def ink_on(colour: str) -> str:
    """Returns black or white, whichever is easier to read on a colour.

    The better of the two has a contrast of 4.5 at least on any colour, which
    is what WCAG 2 (1.4.3) asks for.

    Args:
        colour: as `"#rrggbb"`.
    """
    luminance = relative_luminance(colour)
    dark = (luminance + 0.05) / 0.05
    light = 1.05 / (luminance + 0.05)
    return "#000000" if dark > light else "#ffffff"


def relative_luminance(colour: str) -> float:
    """Returns the relative luminance of WCAG 2, from 0 (black) to 1 (white).

    Args:
        colour: as `"#rrggbb"`.
    """
    encoded = np.array(_channels(colour)) / 255.0
    linear = np.where(
        encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4
    )
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
