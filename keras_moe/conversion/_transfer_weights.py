"""Gives the weights of a dense model to its sparse copy."""

import functools
import tempfile
from collections.abc import Callable
from typing import TypeAlias

import keras
import numpy as np

from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.conversion._sparse_copy import SparseCopy
from keras_moe.keras_internals import flatten_layers
from keras_moe.keras_internals import stored_kernel
from keras_moe.layers import SparseMoE
from keras_moe.weights import Recipe
from keras_moe.weights import TransferReport
from keras_moe.weights import named_weights
from keras_moe.weights import transfer
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._merged_weights import merged_weights

Origins: TypeAlias = dict[str, str | Recipe | None]


def transfer_weights(
    dense: keras.Model,
    model: keras.Model,
    pairs: SparseCopy,
    noise: float = 0.0,
    seed: int | None = None,
) -> TransferReport:
    """Fills `model`, the sparse copy of `dense`.

    Args:
        dense: the dense model.
        model: its sparse copy, built.
        pairs: which layer came from which.
        noise: standard deviation of Gaussian noise on the kernels of each
            expert, as a share of that of the kernel itself.
        seed: seed of the noise.

    Returns:
        What became of every weight of `model`.

    Raises:
        ValueError: if a weight of either model is left over, or has another
            shape in the copy.
    """
    rng = np.random.default_rng(seed)
    linear = [
        layer
        for site, _ in pairs.sparse
        for layer in site.linear_layers.values()
    ]
    names = {id(w): name for name, w in named_weights(model).items()}
    origins = _origins_of_copies(dense, model, pairs, names)
    dense_names = {id(w): name for name, w in named_weights(dense).items()}
    for site, sparse in pairs.sparse:
        origins |= _origins_of_experts(
            site, sparse, names, dense_names, noise, rng
        )
    left = sorted({names[id(w)] for w in model.weights} - origins.keys())
    if left:
        raise ValueError(
            "Each weight must belong to a layer that can be copied. Left over: "
            f"{left}."
        )
    report = transfer(
        merged_weights(dense, linear), model, origins.get, use_all=True
    )
    for old, new in pairs.plain:
        copy_assets(old, new)
        # A block that makes its layers itself forgets which were frozen.
        if new.trainable != old.trainable:
            new.trainable = old.trainable
    for _, sparse in pairs.sparse:
        if not sparse.trainable:
            # The argument of a constructor does not reach sublayers.
            for part in flatten_layers(sparse, include_self=False):
                part.trainable = False
    return report


def _origins_of_copies(
    dense: keras.Model,
    model: keras.Model,
    pairs: SparseCopy,
    names: dict[int, str],
) -> Origins:
    """Says where the weights of layers that were copied whole come from."""
    old_names = {id(layer): name for layer, name, _ in named_layers(dense)}
    new_names = {id(layer): name for layer, name, _ in named_layers(model)}
    origins: Origins = {}
    for old, new in pairs.plain:
        for weight in new.weights:
            name = names[id(weight)]
            below = name.removeprefix(new_names[id(new)])
            origins[name] = f"{old_names[id(old)]}{below}".lstrip("/")
    return origins


def _origins_of_experts(
    site: FeedForwardSite,
    sparse: SparseMoE,
    names: dict[int, str],
    dense_names: dict[int, str],
    noise: float,
    rng: np.random.Generator,
) -> Origins:
    """Says that each expert of a layer is made of one dense network.

    Routers start afresh, and so does a bias where one of the dense layers has
    one and another has not: it is zero.
    """
    origins: Origins = {
        names[id(weight)]: None for weight in sparse.router.weights
    }
    number = sparse.num_experts
    for part, dense in site.linear_layers.items():
        bank = getattr(sparse.experts, part)
        origins[names[id(stored_kernel(bank))]] = _replicated(
            dense_names[id(stored_kernel(dense))],
            (number,),
            functools.partial(_with_noise, noise=noise, rng=rng),
        )
        if bank.bias is not None:
            bias = None
            if dense.bias is not None:
                # A bias has one row, which all slots of an expert share.
                bias = _replicated(dense_names[id(dense.bias)], (number, 1))
            origins[names[id(bank.bias)]] = bias
    return origins


def _replicated(
    name: str,
    axes: tuple[int, ...],
    change: Callable[[np.ndarray], np.ndarray] = lambda values: values,
) -> Recipe:
    """Returns how one weight becomes that of each expert in a bank."""
    return Recipe(
        (name,),
        make=lambda x: change(np.broadcast_to(x, (*axes, *x.shape))),
        shape=lambda shape: (*axes, *shape),
    )


def _with_noise(
    copies: np.ndarray, noise: float, rng: np.random.Generator
) -> np.ndarray:
    if not noise:
        return copies
    drawn = rng.standard_normal(copies.shape, dtype="float32")
    scale = copies[0].astype("float32").std()
    return copies.astype("float32") + noise * scale * drawn


def copy_assets(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copies what was adapted to data and is no weight.

    `Normalization` derives constants from its weights, and lookups hold
    vocabularies.
    """
    for left, right in zip(
        flatten_layers(old), flatten_layers(new), strict=True
    ):
        if hasattr(right, "finalize_state"):
            right.finalize_state()
        if hasattr(left, "save_assets"):
            with tempfile.TemporaryDirectory() as directory:
                left.save_assets(directory)
                right.load_assets(directory)
