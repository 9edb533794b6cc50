"""Log-features of queries and keys."""

from typing import NamedTuple

from keras import ops

from keras_moe.types import Tensor

# Added to "relu" features, which would otherwise be zero for half of all
# inputs: arXiv:2009.14794, the generalised attention of its code.
RELU_EPSILON = 1e-3


class FeatureMap(NamedTuple):
    """Positive random features, by their logarithms.

    Attributes:
        projection: `[n, draws, dim]`, for each key/value head.
        log_weights: `[n, features]`, added to the log-features of keys: one
            for each feature, twice the part that does not depend on the input.
        kernel: `"softmax"`, whose features are `exp(projection @ x)`;
            `"relu"`; or `"elu"` (plus one).
        antithetic: whether each draw makes two features, of itself and of its
            negative.
    """

    projection: Tensor
    log_weights: Tensor
    kernel: str = "softmax"
    antithetic: bool = False

    def log_features(self, x: Tensor) -> Tensor:
        """Returns `[b, n, g, t, features]` for `x`, `[b, n, g, t, dim]`."""
        projected = self._project(x)
        if self.kernel == "relu":
            return ops.log(ops.relu(projected) + RELU_EPSILON)
        if self.kernel == "elu":
            # log(elu(p) + 1): no exponential that is undone again.
            above = ops.log1p(ops.maximum(projected, 0.0))
            return above + ops.minimum(projected, 0.0)
        return projected

    def log_key_features(self, x: Tensor, log_weights: Tensor) -> Tensor:
        """Returns the same for keys, each weighted by `log_weights [., t]`."""
        return (
            self.log_features(x)
            + self.log_weights[:, None, None, :]
            + log_weights[..., None]
        )

    def gradient(self, x: Tensor, upstream: Tensor) -> Tensor:
        """Returns the gradient of `x`, given that of its log-features."""
        if self.kernel != "softmax":
            projected = self._project(x)
            positive = ops.maximum(projected, 0.0)
            if self.kernel == "relu":
                slope = ops.cast(projected > 0.0, "float32")
                upstream = upstream * slope / (positive + RELU_EPSILON)
            else:
                upstream = upstream / (1.0 + positive)
        if self.antithetic:
            draws = self.projection.shape[1]
            upstream = upstream[..., :draws] - upstream[..., draws:]
        return ops.matmul(upstream, self.projection[:, None])

    def _project(self, x: Tensor) -> Tensor:
        transposed = ops.transpose(self.projection, (0, 2, 1))
        projected = ops.matmul(x, transposed[:, None])
        if self.antithetic:
            return ops.concatenate([projected, -projected], axis=-1)
        return projected
