"""Gives the weights of a dense model to its sparse copy, and counts them."""

import tempfile

import keras
import numpy as np
from keras import ops

from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.conversion._sparse_copy import SparseCopy
from keras_moe.conversion._upcycling_report import UpcyclingReport
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import SparseMoE
from keras_moe.weights._merged_kernel import merged_kernel


def transfer_weights(
    dense: keras.Model,
    model: keras.Model,
    pairs: SparseCopy,
    noise: float = 0.0,
    seed: int | None = None,
) -> UpcyclingReport:
    """Fills `model`, the sparse copy of `dense`.

    Args:
        dense: the dense model.
        model: its sparse copy, built.
        pairs: which layer came from which.
        noise: see `fill_experts`.
        seed: seed of the noise.

    Returns:
        What became of every weight of `model`.

    Raises:
        ValueError: if a weight of either model is left over.
    """
    rng = np.random.default_rng(seed)
    copied: list[keras.Variable] = []
    replicated: list[keras.Variable] = []
    fresh: list[keras.Variable] = []
    used: set[int] = set()
    for old, new in pairs.plain:
        if [w.shape for w in old.weights] != [w.shape for w in new.weights]:
            raise ValueError(
                "A layer made from the config of another must have weights of "
                f"the same shapes. Received: {old.name} with "
                f"{[tuple(w.shape) for w in old.weights]}, its copy with "
                f"{[tuple(w.shape) for w in new.weights]}."
            )
        _copy_state(old, new)
        used.update(id(weight) for weight in old.weights)
        copied += new.weights
    for site, sparse in pairs.sparse:
        for layer in site.linear_layers.values():
            used.update(id(weight) for weight in layer.weights)
        filled, new_weights = fill_experts(site, sparse, noise, rng)
        replicated += filled
        fresh += new_weights
    known = {id(weight) for weight in (*copied, *replicated, *fresh)}
    left = [w.path for w in model.weights if id(w) not in known]
    left += [w.path for w in dense.weights if id(w) not in used]
    if left:
        raise ValueError(
            "Each weight must belong to a layer that can be copied. Left over: "
            f"{left}."
        )
    return UpcyclingReport(
        converted=tuple(site.name for site, _ in pairs.sparse),
        copied=tuple(copied),
        replicated=tuple(replicated),
        fresh=tuple(fresh),
    )


def _copy_state(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    for given, taken in zip(old.weights, new.weights, strict=True):
        taken.assign(given)
    for left, right in zip(
        flatten_layers(old), flatten_layers(new), strict=True
    ):
        # What was adapted to data is not in weights alone: constants that
        # `Normalization` derives from them, vocabularies of lookups.
        if hasattr(right, "finalize_state"):
            right.finalize_state()
        if hasattr(left, "save_assets"):
            with tempfile.TemporaryDirectory() as directory:
                left.save_assets(directory)
                right.load_assets(directory)


def fill_experts(
    site: FeedForwardSite,
    sparse: SparseMoE,
    noise: float,
    rng: np.random.Generator,
) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """Makes each expert of a built layer equal to a dense network.

    Args:
        site: the dense network.
        sparse: the layer to fill.
        noise: standard deviation of Gaussian noise on the kernels of each
            expert, as a share of that of the kernel itself.
        rng: source of the noise.

    Returns:
        The weights that were replicated, and those that the dense network has
        nothing for.
    """
    replicated: list[keras.Variable] = []
    fresh: list[keras.Variable] = list(sparse.router.weights)
    for name, dense in site.linear_layers.items():
        bank = getattr(sparse.experts, name)
        kernel = ops.convert_to_numpy(merged_kernel(dense))
        copies = np.broadcast_to(kernel, bank.kernel.shape)
        if noise:
            drawn = rng.standard_normal(copies.shape, dtype="float32")
            copies = copies + noise * kernel.std() * drawn
        bank.kernel.assign(copies)
        replicated.append(bank.kernel)
        if bank.bias is not None and dense.bias is not None:
            bias = ops.convert_to_numpy(dense.bias)
            bank.bias.assign(np.broadcast_to(bias, bank.bias.shape))
            replicated.append(bank.bias)
        elif bank.bias is not None:
            bank.bias.assign(np.zeros(bank.bias.shape))
            fresh.append(bank.bias)
    return replicated, fresh
