"""Random features that fit the queries and keys at hand."""

from typing import NamedTuple

from keras import ops

from keras_moe.ops.linear_attention._matrix_diagonal import matrix_diagonal
from keras_moe.types import Tensor

COVARIANCES = ("isotropic", "per_dimension", "dense")

# Logarithms of variances are cut off here: all above are as bad, and the
# exponential stays finite.
_LARGEST_LOG = 80.0
# A dimension that hardly varies says nothing about its scale.
_LEAST_SHARE = 1e-6


class FittedFeatures(NamedTuple):
    """Features of `exp(x . y)`, `n` heads of size `dim`.

    With `x' = (x - query_center) * scale` and `y' = (y - key_center) / scale`,
    feature `i` of a query is `exp(w_i . x')`, that of a key `exp(w_i . y' +
    log_weights_i - |y'|^2 / 2 + scale * query_center . y')`.

    Attributes:
        projection: `[n, draws, dim]`, the `w`.
        log_weights: `[n, features]`.
        query_center: `[n, dim]`.
        key_center: `[n, dim]`.
        scale: `[n, dim]`.
        relative_variance: `[n]`, see `relative_variance`.
    """

    projection: Tensor
    log_weights: Tensor
    query_center: Tensor
    key_center: Tensor
    scale: Tensor
    relative_variance: Tensor


def fit_features(
    draws: Tensor,
    query_moments: tuple[Tensor, Tensor],
    key_moments: tuple[Tensor, Tensor],
    *,
    centering: bool,
    rescaling: bool,
    bounded: bool,
    covariance: str,
    antithetic: bool,
) -> FittedFeatures:
    """Chooses centre, scale and bound of features.

    Args:
        draws: standard normal rows, `[n, draws, dim]`.
        query_moments: mean `[n, dim]` and second moment, `[n, dim]` or, for
            `covariance="dense"`, `[n, dim, dim]`.
        key_moments: the same of keys.
        centering: whether to subtract the means.
        rescaling: whether to let queries and keys vary alike.
        bounded: whether to choose the best bound (FAVOR++), not none (FAVOR+).
        covariance: `"isotropic"`, `"per_dimension"` or `"dense"`.
        antithetic: whether each draw makes two features.

    Sources: [Likhosherstov et al., 2022](https://arxiv.org/abs/2205.15317);
    [Likhosherstov et al., 2023](https://arxiv.org/abs/2302.00787), for
    `"per_dimension"`, `"dense"` and rescaling.
    """
    (query_mean, query_square), (key_mean, key_square) = (
        query_moments,
        key_moments,
    )
    query_center = query_mean if centering else ops.zeros_like(query_mean)
    key_center = key_mean if centering else ops.zeros_like(key_mean)
    dense = len(query_square.shape) == 3
    query_square = query_square - _outer(query_center, query_center, dense)
    key_square = key_square - _outer(key_center, key_center, dense)
    scale = ops.ones_like(query_mean)
    if rescaling:
        scale = balancing_scale(
            _diagonal(query_square, dense), _diagonal(key_square, dense)
        )
    # `square` becomes the second moment of x' + y'; means that centring leaves
    # over are added below.
    square = query_square * _outer(scale, scale, dense)
    square = square + key_square / _outer(scale, scale, dense)
    query_mean, key_mean = query_mean - query_center, key_mean - key_center
    cross = _outer(query_mean * scale, key_mean / scale, dense)
    if dense:
        square = square + cross + ops.transpose(cross, (0, 2, 1))
        moment, directions = ops.eigh(square)
    else:
        moment = square + 2.0 * cross
    if covariance == "isotropic":
        moment = ops.zeros_like(moment) + ops.mean(
            moment, axis=-1, keepdims=True
        )
    moment = ops.maximum(moment, 0.0)
    bound = ops.zeros_like(moment)
    if bounded:
        bound = optimal_bound(moment)
    projection = draws * ops.sqrt(1.0 - 4.0 * bound)[..., None, :]
    if dense:
        projection = ops.matmul(
            projection, ops.transpose(directions, (0, 2, 1))
        )
    # Queries' features have this factor, too; the keys' weights take both,
    # hence the 2.
    log_weights = 2.0 * ops.matmul(ops.square(draws), bound[..., None])[..., 0]
    if antithetic:
        log_weights = ops.concatenate([log_weights, log_weights], axis=-1)
    variance = relative_variance(
        moment, bound, log_weights.shape[-1], antithetic
    )
    return FittedFeatures(
        projection, log_weights, query_center, key_center, scale, variance
    )


def balancing_scale(query_variance: Tensor, key_variance: Tensor) -> Tensor:
    """Returns the factor of queries, divisor of keys, so that both vary alike.

    Args:
        query_variance: `[n, dim]`.
        key_variance: `[n, dim]`.
    """
    total = ops.mean(query_variance + key_variance, axis=-1, keepdims=True)
    least = _LEAST_SHARE * total
    known = (query_variance > least) & (key_variance > least)
    ratio = ops.where(known, key_variance, 1.0) / ops.where(
        known, query_variance, 1.0
    )
    return ratio**0.25


def optimal_bound(second_moment: Tensor) -> Tensor:
    """Returns the best `a` of `exp(a w^2 + sqrt(1 - 4a) w x - x^2 / 2)`.

    It minimises the mean second moment of the estimate, and is never positive:
    the features are bounded. Whatever it is, the estimate has no bias.

    Args:
        second_moment: mean square of `x + y` along each direction.
    """
    twice = 2.0 * second_moment
    root = ops.sqrt(ops.square(twice + 1.0) + 4.0 * twice)
    return (1.0 - twice - root) / 16.0


def relative_variance(
    second_moment: Tensor,
    bound: Tensor,
    num_random_features: int,
    antithetic: bool,
) -> Tensor:
    """Predicts the variance of a kernel estimate over its square, `[n]`.

    For independent draws, and a pair of query and key whose sum is as long as
    in the mean. Above 1 the estimates are mostly noise.

    Args:
        second_moment: mean square of `x + y` along each direction, `[n, dim]`.
        bound: of each direction, `[n, dim]`; 0 for FAVOR+.
        num_random_features: number of features.
        antithetic: whether they come in pairs of a draw and its negative.
    """
    rho = 1.0 / (1.0 - 8.0 * bound)
    spread = ops.sum(ops.log((1.0 + rho) / (2.0 * ops.sqrt(rho))), axis=-1)
    square = _exp(spread + ops.sum(rho * second_moment, axis=-1))
    if not antithetic:
        return (square - 1.0) / num_random_features
    product = _exp(spread - ops.sum(second_moment, axis=-1))
    return (square + product - 2.0) / num_random_features


def _exp(x: Tensor) -> Tensor:
    return ops.exp(ops.minimum(x, _LARGEST_LOG))


def _outer(x: Tensor, y: Tensor, dense: bool) -> Tensor:
    return x[..., :, None] * y[..., None, :] if dense else x * y


def _diagonal(square: Tensor, dense: bool) -> Tensor:
    return matrix_diagonal(square) if dense else square
