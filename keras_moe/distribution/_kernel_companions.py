"""Where weights lie that Keras keeps beside a kernel."""

import keras

from keras_moe.types import Axes

# Names of the main weights of layers that have companions.
_KERNEL, _EMBEDDINGS = "kernel", "embeddings"


def companions(
    layer: keras.layers.Layer, name: str, axes: Axes
) -> dict[str, Axes]:
    """Returns the axes of a bias, of scales of int8, and of factors of LoRA.

    Each axis of theirs lies where the kernel's axis does that it stands for,
    so that none has to be sent anywhere when it meets the kernel.

    Args:
        layer: the layer that has the kernel. A `Dense`, an `EinsumDense` and an
            `Embedding` have companions, others none.
        name: of the weight, `"kernel"` or `"embeddings"`.
        axes: of the weight.

    Returns:
        Name of a weight that the layer has to its axes.
    """
    found: dict[str, Axes] = {}
    if isinstance(layer, keras.layers.Embedding) and name == _EMBEDDINGS:
        rows, size = axes
        found = {
            "embeddings_scale": (rows,),
            "lora_embeddings_a": (rows, None),
            "lora_embeddings_b": (None, size),
            "reverse_embeddings": (size, rows),
            "reverse_embeddings_scale": (rows,),
        }
    elif name == _KERNEL and isinstance(
        layer, keras.layers.Dense | keras.layers.EinsumDense
    ):
        outputs = _output_axes(layer, axes)
        found = {
            "bias": outputs,
            "kernel_scale": outputs,
            "lora_kernel_a": (*axes[:-1], None),
            "lora_kernel_b": (None, axes[-1]),
        }
    shapes = {v.name: tuple(v.shape) for v in layer.variables}
    return {
        name: _aligned(axes, shapes[name])
        for name, axes in found.items()
        if name in shapes
    }


def _output_axes(
    layer: keras.layers.Dense | keras.layers.EinsumDense, axes: Axes
) -> Axes:
    """Returns the axes of the layer's output that come of the kernel."""
    if isinstance(layer, keras.layers.Dense):
        return axes[-1:]
    sides, outputs = layer.equation.replace(".", "").split("->")
    kernel = sides.split(",")[1]
    axis_of = dict(zip(kernel, axes, strict=True))
    return tuple(axis_of.get(label) for label in outputs)


def _aligned(axes: Axes, shape: tuple[int, ...]) -> Axes:
    """Returns the last axes, as many as `shape` has; whole where it has one."""
    if len(axes) < len(shape):
        # int4 has scales for groups of rows: no axis of the kernel says where
        # the axis of groups lies, so they stay whole.
        return (None,) * len(shape)
    last = axes[len(axes) - len(shape) :]
    return tuple(
        None if size == 1 else axis
        for axis, size in zip(last, shape, strict=True)
    )
