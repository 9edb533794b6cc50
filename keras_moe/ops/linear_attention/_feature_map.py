"""Log-features of queries and keys."""

from typing import NamedTuple

from keras import ops

from keras_moe.types import Tensor

# Added to "relu" features, which would otherwise be zero for half of all
# inputs, as in the code of arXiv:2009.14794 (generalised attention).
RELU_EPSILON = 1e-3


class FeatureMap(NamedTuple):
    """Positive random features, by their logarithms, and their gradients.

    For softmax, with `x' = scale * x - shift` of queries and of keys, feature
    `i` of a query is `exp(w_i . x' + log_weights_i)`, that of a key
    `exp(w_i . x' + (taken - x' / 2) . x')`. For other kernels it is `relu` or
    `elu + 1` of `w_i . (scale * x)`.

    Attributes:
        projection: `[n, draws, dim]`, the `w`, for each key/value head.
        log_weights: `[n, features]`.
        query_scale: `[n, 1, 1, dim]`, and so the following.
        query_shift: of queries.
        key_scale: of keys.
        key_shift: of keys.
        taken: what centring took from the queries.
        kernel: `"softmax"`, `"relu"` or `"elu"`.
        antithetic: whether each draw makes two features, of itself and of its
            negative.
    """

    projection: Tensor
    log_weights: Tensor
    query_scale: Tensor
    query_shift: Tensor
    key_scale: Tensor
    key_shift: Tensor
    taken: Tensor
    kernel: str = "softmax"
    antithetic: bool = False

    @property
    def num_features(self) -> int:
        """Features of each head."""
        return self.log_weights.shape[-1]

    @property
    def feature_weights(self) -> Tensor:
        """`log_weights` as `[n, 1, 1, features]`."""
        return self.log_weights[:, None, None, :]

    def log_queries(self, x: Tensor) -> Tensor:
        """Returns log-features, without `log_weights`."""
        return self._of_kernel(self._project(self._query(x)))

    def queries_gradient(self, x: Tensor, upstream: Tensor) -> Tensor:
        """Returns the gradient of queries, given that of `log_queries`."""
        d_projected = self._through_kernel(self._query(x), upstream)
        return self._through_projection(d_projected) * self.query_scale

    def log_keys(self, x: Tensor) -> Tensor:
        """Returns log-features of keys."""
        x = self._key(x)
        log_features = self._of_kernel(self._project(x))
        if self.kernel != "softmax":
            return log_features
        weight = ops.sum(x * (self.taken - 0.5 * x), axis=-1, keepdims=True)
        return log_features + weight

    def keys_gradient(self, x: Tensor, upstream: Tensor) -> Tensor:
        """Returns the gradient of keys, given that of `log_keys`."""
        x = self._key(x)
        d_x = self._through_projection(self._through_kernel(x, upstream))
        if self.kernel == "softmax":
            total = ops.sum(upstream, axis=-1, keepdims=True)
            d_x = d_x + total * (self.taken - x)
        return d_x * self.key_scale

    def _query(self, x: Tensor) -> Tensor:
        return x * self.query_scale - self.query_shift

    def _key(self, x: Tensor) -> Tensor:
        return x * self.key_scale - self.key_shift

    def _project(self, x: Tensor) -> Tensor:
        transposed = ops.transpose(self.projection, (0, 2, 1))
        projected = ops.matmul(x, ops.expand_dims(transposed, 1))
        if self.antithetic:
            return ops.concatenate([projected, -projected], axis=-1)
        return projected

    def _through_projection(self, upstream: Tensor) -> Tensor:
        if self.antithetic:
            draws = self.projection.shape[1]
            upstream = upstream[..., :draws] - upstream[..., draws:]
        return ops.matmul(upstream, ops.expand_dims(self.projection, 1))

    def _of_kernel(self, projected: Tensor) -> Tensor:
        if self.kernel == "relu":
            return ops.log(ops.relu(projected) + RELU_EPSILON)
        if self.kernel == "elu":
            # log(elu(p) + 1) in two parts, without the exponential, which would
            # underflow before the logarithm undid it.
            above = ops.log1p(ops.maximum(projected, 0.0))
            return above + ops.minimum(projected, 0.0)
        return projected

    def _through_kernel(self, x: Tensor, upstream: Tensor) -> Tensor:
        if self.kernel == "softmax":
            return upstream
        projected = self._project(x)
        positive = ops.maximum(projected, 0.0)
        if self.kernel == "elu":
            return upstream / (1.0 + positive)
        slope = ops.cast(projected > 0.0, "float32")
        return upstream * slope / (positive + RELU_EPSILON)
