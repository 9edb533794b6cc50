"""The random features of queries and keys."""

import random

from keras import ops

from keras_moe.backend import refuse_recomputation
from keras_moe.layers.attention._feature_averages import assign_if_finite
from keras_moe.layers.attention._feature_averages import check_usable
from keras_moe.layers.attention._feature_averages import choose
from keras_moe.layers.attention._feature_averages import count_batch
from keras_moe.layers.attention._feature_averages import current_value
from keras_moe.layers.attention._feature_averages import update_moments
from keras_moe.layers.attention._feature_options import FEATURE_MAPS
from keras_moe.layers.attention._feature_options import SOFTMAX_MAPS
from keras_moe.layers.attention._feature_options import check_options
from keras_moe.layers.attention._feature_options import choose_options
from keras_moe.layers.attention._feature_options import refuse_dense_covariance
from keras_moe.layers.attention._measured_features import MeasuredFeatures
from keras_moe.ops.linear_attention._feature_map import FeatureMap
from keras_moe.ops.linear_attention._fit_features import COVARIANCES
from keras_moe.ops.linear_attention._fit_features import fit_features
from keras_moe.ops.linear_attention._random_projection import PROJECTIONS
from keras_moe.ops.linear_attention._random_projection import random_projection
from keras_moe.serialization import register
from keras_moe.sharding import is_sharded
from keras_moe.types import Config
from keras_moe.types import Shape
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_rate
from keras_moe.validation import check_seed
from keras_moe.validation import check_size

# How often features are fitted to the statistics, without redrawing.
_FIT_INTERVAL = 1000


@register
class RandomFeatures(MeasuredFeatures):
    """Positive random features whose products are those of a kernel.

    For the softmax kernel, `exp(x . y)` of queries and keys over the fourth
    root of their size, three exact rewritings make the features fit the data
    and change only their variance. They follow moving averages of means and
    second moments, which training gathers and inference only uses:

    - centring: `exp(x . y)` is `exp((x - a) . (y - b))` times factors of the
      query, which cancel, and of the key;
    - rescaling: `x . y` is `(s x) . (y / s)`, with both varying alike;
    - the bound: features `exp(a w^2 + sqrt(1 - 4a) w . x)`, `a <= 0`.

    Sources: [Choromanski 2020](https://arxiv.org/abs/2009.14794) (FAVOR+);
    [Likhosherstov 2022](https://arxiv.org/abs/2205.15317) (FAVOR++) and
    [2023](https://arxiv.org/abs/2302.00787) (FAVOR#).

    Args:
        num_random_features: features of each head.
        feature_map: `"favor+"`; `"hyperbolic"`, in pairs of a draw and its
            negative; `"favor++"`, with the best bound; or, for kernels other
            than softmax, `"relu"` and `"elu"` (plus one).
        covariance: what the bound of `"favor++"` is fitted to: `"isotropic"`,
            one number, as published as FAVOR++; `"per_dimension"`; or
            `"dense"`, all directions (both of FAVOR#).
        centering: whether to centre. The default does for `"favor++"`.
        rescaling: whether to rescale. The default does for `"favor++"`.
        antithetic: whether features come in pairs of a draw and its negative.
            The default does for `"hyperbolic"` and, if the draws then still
            fill a block (`num_random_features >= 2 * dim`), for `"favor++"`.
        projection: how draws are coupled: `"orthogonal"`, `"simplex"` or
            `"iid"`. The default is a simplex for `"favor++"` without pairs,
            else orthogonal.
        redraw_interval: calls in training between projections; `None` keeps the
            first. Features are fitted after 1, 2, 4, 8, ... calls, too.
        momentum: of the moving averages; the first steps count alike.
        seed: seed of the projections; `None` draws one.

    Attributes:
        relative_variance: metric of the worst head's predicted variance, in
            training the mean, elsewhere as the features stand; absent for other
            kernels, no log on JAX. See `keras_moe.metrics.RelativeVariance`.

    Raises:
        ValueError: if an argument is out of its range or does not go with the
            feature map.

    Example:

    >>> features = keras_moe.layers.RandomFeatures(num_random_features=16)
    >>> features.build((1, 2, 1, 6, 4))  # batch, heads, 1, length, dim
    >>> queries = np.ones((1, 2, 1, 6, 4), "float32")
    >>> features.map().log_queries(queries).shape
    TensorShape([1, 2, 1, 6, 16])
    """

    def __init__(
        self,
        num_random_features: int = 256,
        feature_map: str = "favor++",
        covariance: str = "dense",
        centering: bool | None = None,
        rescaling: bool | None = None,
        antithetic: bool | None = None,
        projection: str | None = None,
        redraw_interval: int | None = 1000,
        momentum: float = 0.99,
        seed: int | None = None,
        **kwargs,
    ):
        # In low precision, rounding would cost more than the approximation.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        check_size(num_random_features=num_random_features)
        check_size(redraw_interval=redraw_interval)
        check_choice(FEATURE_MAPS, feature_map=feature_map)
        check_choice(COVARIANCES, covariance=covariance)
        if projection is not None:
            check_choice(PROJECTIONS, projection=projection)
        check_rate(momentum=momentum)
        self.num_random_features = num_random_features
        self.feature_map = feature_map
        self.covariance = covariance
        self.centering = centering
        self.rescaling = rescaling
        self.antithetic = antithetic
        self.projection = projection
        self.redraw_interval = redraw_interval
        self.momentum = momentum
        check_seed(seed)
        self.seed = random.randint(1, 10**9) if seed is None else seed
        check_options(
            feature_map,
            num_random_features,
            antithetic=antithetic,
            centering=centering,
            rescaling=rescaling,
        )

    # === Weights ===

    def build(self, query_shape: Shape, key_shape: Shape | None = None) -> None:
        heads, dim = int(query_shape[1] or 0), int(query_shape[-1] or 0)
        features = self.num_random_features
        self.options = choose_options(
            self.feature_map,
            features,
            dim,
            antithetic=self.antithetic,
            projection=self.projection,
            centering=self.centering,
            rescaling=self.rescaling,
        )
        draws = features // 2 if self.options.antithetic else features
        shape = (heads, draws, dim)

        def first_draw(*_, **__) -> Tensor:
            return self._draw(shape, 0)

        self.drawn_projection = self._weight(
            "drawn_projection", shape, first_draw
        )
        self.fitted_projection = self._weight(
            "fitted_projection", shape, first_draw
        )
        self.log_weights = self._weight("log_weights", (heads, features))
        self.num_updates = self._weight("num_updates", (), dtype="int32")
        if not self.is_softmax:
            return
        self.query_center = self._weight("query_center", (heads, dim))
        self.key_center = self._weight("key_center", (heads, dim))
        self.scale = self._weight("scale", (heads, dim), "ones")
        self.predicted_variance = self._weight("predicted_variance", (heads,))
        self.query_moments = self._moments("query", heads, dim)
        self.key_moments = self._moments("key", heads, dim)
        self.add_metrics()

    def _weight(self, name, shape, initializer="zeros", dtype=None):
        return self.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer=initializer,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",  # all compute the same
        )

    def _moments(self, side: str, heads: int, dim: int) -> tuple:
        """Adds the moving averages of a mean and a second moment."""
        square: tuple[int, ...] = (heads, dim)
        if self.feature_map == "favor++" and self.covariance == "dense":
            square = (heads, dim, dim)
        sizes = (("mean", (heads, dim)), ("second_moment", square))
        return tuple(
            self.add_weight(
                name=f"{side}_{name}",
                shape=shape,
                initializer="zeros",
                trainable=False,
                autocast=False,
                aggregation="mean",  # replicas see different data
            )
            for name, shape in sizes
        )

    def _draw(self, shape: tuple[int, int, int], draw: int | Tensor) -> Tensor:
        return random_projection(
            *shape, self.options.projection, self.seed, draw
        )

    @property
    def is_softmax(self) -> bool:
        """Whether the kernel is that of softmax attention."""
        return self.feature_map in SOFTMAX_MAPS

    # === Use ===

    def map(self) -> FeatureMap:
        """Returns the features of heads of queries and keys."""
        projection = current_value(self.fitted_projection)
        root = projection.shape[-1] ** -0.25
        # [n, 1, 1, dim]
        ones = ops.expand_dims(ops.ones_like(projection[:, :1]), 1)
        scale, query_center, key_center = ones, 0.0 * ones, 0.0 * ones
        if self.is_softmax:
            scale, query_center, key_center = (
                current_value(weight)[:, None, None, :]
                for weight in (self.scale, self.query_center, self.key_center)
            )
        return FeatureMap(
            projection,
            current_value(self.log_weights),
            query_scale=root * scale,
            query_shift=query_center * scale,
            key_scale=root / scale,
            key_shift=key_center / scale,
            taken=query_center * scale,
            kernel="softmax" if self.is_softmax else self.feature_map,
            antithetic=self.options.antithetic,
        )

    # === Fit ===

    def update(
        self,
        queries: Tensor,
        keys: Tensor,
        query_visible: Tensor | None = None,
        key_visible: Tensor | None = None,
    ) -> None:
        """Takes a training batch into the averages, for the batches to come.

        Args:
            queries: float32 `[b, n, g, t, dim]`.
            keys: float32 `[b, n, 1, s, dim]`.
            query_visible: bool `[b, 1, 1, t]`, false for padding.
            key_visible: bool `[b, 1, 1, s]`, false for padding.
        """
        refuse_recomputation(self)
        number, usable = count_batch(
            self.num_updates, (queries, query_visible), (keys, key_visible)
        )
        if self.is_softmax:
            rate = ops.maximum(
                1.0 - self.momentum, 1.0 / ops.cast(number, "float32")
            )
            update_moments(self.query_moments, queries, query_visible, rate)
            update_moments(self.key_moments, keys, key_visible, rate)
        power_of_two = ops.bitwise_and(number, number - 1) == 0
        interval = self.redraw_interval or _FIT_INTERVAL
        due = power_of_two | (number % interval == 0)
        self._refit(due & usable, number)
        self.measure()

    def _refit(self, due: Tensor, number: Tensor) -> None:
        before = tuple(current_value(weight) for weight in self._fitted)
        if is_sharded():
            # On a mesh the branches of a condition must lay out their tensors
            # alike, which these do not: fit always, and choose.
            after = choose(due, self._fit(number), before)
        else:
            after = ops.cond(due, lambda: self._fit(number), lambda: before)
        assign_if_finite(self._fitted, after)

    def adapt(self, queries: Tensor, keys: Tensor, *visible: Tensor) -> None:
        """Fits the features to one batch, as if there had been no other.

        Arguments are those of `update`. Raises `ValueError`, when eager, for a
        batch that features cannot be fitted to.
        """
        seen = visible or (None, None)
        check_usable(self.name, *zip((queries, keys), seen, strict=True))
        self.num_updates.assign(0)
        self.update(queries, keys, *visible)

    @property
    def _fitted(self) -> tuple:
        if not self.is_softmax:
            return self.drawn_projection, self.fitted_projection
        # `drawn_projection`, then the rest in the order of `FittedFeatures`.
        return (
            self.drawn_projection,
            self.fitted_projection,
            self.log_weights,
            self.query_center,
            self.key_center,
            self.scale,
            self.predicted_variance,
        )

    def _fit(self, number: Tensor) -> tuple[Tensor, ...]:
        """Returns new values of the fitted weights."""
        draws = current_value(self.drawn_projection)
        if self.redraw_interval:
            draws = self._draw(draws.shape, number // self.redraw_interval)
        if not self.is_softmax:
            return draws, draws
        if len(self.query_moments[1].shape) == 3 and is_sharded():
            refuse_dense_covariance(self.name, self.feature_map)
        fitted = fit_features(
            draws,
            tuple(current_value(w) for w in self.query_moments),
            tuple(current_value(w) for w in self.key_moments),
            centering=self.options.centering,
            rescaling=self.options.rescaling,
            bounded=self.feature_map == "favor++",
            covariance=self.covariance,
            antithetic=self.options.antithetic,
        )
        return draws, *fitted

    def quantize(self, mode: str | None = None, **kwargs) -> None:
        """Does nothing: features in low precision are noise."""

    def get_config(self) -> Config:
        config = super().get_config()
        del config["dtype"]
        return {
            **config,
            "num_random_features": self.num_random_features,
            "feature_map": self.feature_map,
            "covariance": self.covariance,
            "centering": self.centering,
            "rescaling": self.rescaling,
            "antithetic": self.antithetic,
            "projection": self.projection,
            "redraw_interval": self.redraw_interval,
            "momentum": self.momentum,
            "seed": self.seed,
        }
