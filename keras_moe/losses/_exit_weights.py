"""The weight of each exit of a decoder in the training loss."""

import itertools
from collections.abc import Sequence

from keras import ops

from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_not_negative

WEIGHTINGS = ("linear", "uniform", "geometric", "cumulative")
CURRICULA = ("rotating", "gradual")


def exit_layers(
    num_layers: int, min_exit_layer: int = 1, exit_interval: int = 1
) -> tuple[int, ...]:
    """Returns the layers, counted from 1, after which a decoder may stop.

    Args:
        num_layers: layers of the decoder; the last is always an exit.
        min_exit_layer: the lowest exit.
        exit_interval: distance from one exit to the next.

    Raises:
        ValueError: if there is no such layer.

    Example:

    >>> keras_moe.losses.exit_layers(8, min_exit_layer=2, exit_interval=3)
    (2, 5, 8)
    """
    if not 1 <= min_exit_layer <= num_layers:
        raise ValueError(
            f"`min_exit_layer` must be a layer, from 1 to {num_layers}. "
            f"Received: min_exit_layer={min_exit_layer}."
        )
    if exit_interval < 1:
        raise ValueError(
            "`exit_interval` must be at least 1. Received: "
            f"exit_interval={exit_interval}."
        )
    below = range(min_exit_layer, num_layers, exit_interval)
    return (*below, num_layers)


def exit_weights(
    layers: Sequence[int],
    weighting: str = "linear",
    early_exit_scale: float = 1.0,
) -> list[float]:
    """Returns the weight of each exit's loss; they sum to 1.

    Args:
        layers: the exits, counted from 1, ascending; the last is the
            decoder's last layer.
        weighting: `"linear"`, in proportion to the layer's number (CALM,
            arXiv:2207.07061, section 4.1); `"uniform"`; `"geometric"`, twice
            that of the exit before; `"cumulative"`, in proportion to the sum
            of the numbers up to the layer's, counted from 0, with the last
            layer's own number added to what all before it have together
            (LayerSkip, arXiv:2404.16710, section 4.2).
        early_exit_scale: factor of all weights but the last, before they are
            normalised. For `"cumulative"` it is the paper's `e_scale`, which
            is in the last weight, too.

    Raises:
        ValueError: if `weighting` is unknown, the scale negative or `layers`
            not ascending.

    Example:

    >>> keras_moe.losses.exit_weights([1, 2, 3, 4])
    [0.1, 0.2, 0.3, 0.4]
    """
    check_choice(WEIGHTINGS, weighting=weighting)
    check_not_negative(early_exit_scale=early_exit_scale)
    if not layers or list(layers) != sorted(set(layers)) or layers[0] < 1:
        raise ValueError(
            "`layers` must be ascending and count from 1. Received: "
            f"layers={tuple(layers)}."
        )
    if weighting == "cumulative":
        raw = _cumulative(layers, early_exit_scale)
    else:
        raw = {
            "linear": [float(layer) for layer in layers],
            "uniform": [1.0] * len(layers),
            "geometric": [2.0**index for index in range(len(layers))],
        }[weighting]
        raw[:-1] = [weight * early_exit_scale for weight in raw[:-1]]
    total = sum(raw)
    # In "cumulative" the only exit of a decoder of one layer has the weight 0,
    # which cannot be normalised.
    return [weight / total for weight in raw] if total else [1.0] * len(raw)


def _cumulative(layers: Sequence[int], scale: float) -> list[float]:
    last = layers[-1] - 1
    below = list(itertools.accumulate(range(last)))
    weights = [scale * below[layer - 1] for layer in layers[:-1]]
    return [*weights, last + scale * (below[last - 1] if last else 0)]


def enabled_exits(
    curriculum: str | None,
    layers: Sequence[int],
    step: Tensor,
    interval: int = 2,
    fraction: float = 0.5,
    num_steps: int | None = None,
) -> Tensor:
    """Returns which exits count at a step of training, 1 or 0.

    Args:
        curriculum: `None`, all, always; `"rotating"`, every `interval`-th
            exit, moved on by one at each step; `"gradual"`, from the last
            layer down, layer l of L from the step `fraction * num_steps *
            (L - l) / L` on (both LayerSkip, arXiv:2404.16710, section 4.2).
            The last layer always counts.
        layers: the exits, counted from 1, ascending.
        step: number of updates so far, a scalar.
        interval: interval of `"rotating"`, in exits.
        fraction: share of the training after which all exits of `"gradual"`
            count.
        num_steps: number of updates of the whole training, for `"gradual"`.

    Returns:
        float32 `(exits,)`.

    Raises:
        ValueError: if the curriculum is unknown, or lacks `num_steps`.

    Example:

    >>> keras_moe.losses.enabled_exits("rotating", [2, 4, 6, 8], step=1).numpy()
    array([0., 1., 0., 1.], dtype=float32)
    """
    count = len(layers)
    if curriculum is None:
        return ops.ones((count,), dtype="float32")
    check_choice(CURRICULA, curriculum=curriculum)
    last = ops.arange(count) == count - 1
    if curriculum == "rotating":
        if interval < 1:
            raise ValueError(
                "The interval of a rotating curriculum must be at least 1. "
                f"Received: interval={interval}."
            )
        turn = ops.cast(step, "int32") + ops.arange(count, dtype="int32")
        enabled = turn % interval == 0
    else:
        if num_steps is None or num_steps < 1 or not 0 < fraction <= 1:
            raise ValueError(
                "The curriculum 'gradual' needs `num_steps` of at least 1 and "
                "a fraction in (0, 1]. Received: "
                f"num_steps={num_steps}, fraction={fraction}."
            )
        top = layers[-1]
        starts = [fraction * num_steps * (top - n) / top for n in layers]
        enabled = ops.cast(step, "float32") >= ops.convert_to_tensor(
            starts, dtype="float32"
        )
    return ops.cast(ops.logical_or(enabled, last), "float32")
