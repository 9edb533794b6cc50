"""Warnings of random features that are too noisy for what they are given."""

import warnings

import keras
from keras import ops

from keras_moe.layers.attention._head_projections import HeadProjections
from keras_moe.layers.attention._random_features import RandomFeatures
from keras_moe.metrics._relative_variance import NOISE
from keras_moe.metrics._relative_variance import warn_of_noise
from keras_moe.ops.linear_attention._fit_features import fit_features
from keras_moe.types import Tensor


def warn_of_noisy_features(features: RandomFeatures) -> None:
    """Warns where the features fit their data badly, or were never fitted.

    Args:
        features: built.
    """
    if not features.is_softmax:
        return
    name = features.relative_variance.name
    if not int(ops.convert_to_numpy(features.num_updates)):
        warnings.warn(
            f"{name} is not known: the features were never fitted to queries "
            "and keys. `RandomFeatureAttention.adapt` fits them to a batch; "
            "training does so, too.",
            stacklevel=2,
        )
        return
    variance = float(ops.max(features.predicted_variance))
    if variance > NOISE:
        warn_of_noise(name, variance)


def warn_of_projections(
    layer: HeadProjections, features: RandomFeatures
) -> None:
    """Warns where features would be too noisy on normalised inputs.

    Converted layers have seen no data yet. Of inputs with mean 0 and variance
    1, as a normalisation gives, the projections alone tell what queries and
    keys will be like.

    Args:
        layer: the projections, built.
        features: the layer's.
    """
    if not features.is_softmax:
        return
    dense = len(features.query_moments[1].shape) == 3
    heads = layer.num_key_value_heads
    moments = [
        _moments(projection, heads, dense)
        for projection in (layer.query, layer.key)
    ]
    fitted = fit_features(
        features.drawn_projection.value,
        *moments,
        centering=features.options.centering,
        rescaling=features.options.rescaling,
        bounded=features.feature_map == "favor++",
        covariance=features.covariance,
        antithetic=features.options.antithetic,
    )
    variance = float(ops.max(fitted.relative_variance))
    if variance > NOISE:
        name = features.relative_variance.name
        warn_of_noise(f"On inputs of mean 0 and variance 1 {name}", variance)


def _moments(
    projection: keras.layers.EinsumDense, num_heads: int, dense: bool
) -> tuple[Tensor, Tensor]:
    """Returns mean and second moment of heads, as features see them."""
    kernel = ops.cast(projection.kernel, "float32")  # [inputs, heads, dim]
    mean = ops.zeros_like(kernel[0])
    if projection.bias is not None:
        mean = mean + ops.cast(projection.bias, "float32")
    # Each sample: a row of the kernel, or the bias.
    rows = ops.concatenate([kernel, ops.expand_dims(mean, 0)], axis=0)
    if dense:
        square = ops.einsum("ihd,ihe->hde", rows, rows)
    else:
        square = ops.sum(ops.square(rows), axis=0)
    root = kernel.shape[-1] ** -0.25
    return tuple(
        # The queries of a group share a head of keys.
        scale * ops.mean(ops.reshape(x, (num_heads, -1, *x.shape[1:])), axis=1)
        for scale, x in ((root, mean), (root**2, square))
    )
