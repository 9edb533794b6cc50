"""SGD whose gradient is clipped in proportion to the weights."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_moe.backend import num_replicas
from keras_moe.keras_internals import trained_variables
from keras_moe.serialization import register
from keras_moe.types import Config
from keras_moe.types import Tensor
from keras_moe.validation import check_positive


@register
class RelativeClipSGD(keras.optimizers.Optimizer):
    """SGD with weight decay, clipped relative to the norm of the weights.

    For weights of which the loss does not depend on the scale. With x all of
    them, g their gradient, e the rate and w the decay, an update is
    `x <- (1 - e w) x - e g min(1, clip_factor sqrt(2 w / e) |x| / |g|)`. Such
    weights settle where `|g|` is about `sqrt(2 w / e) |x|`, at any scale of the
    loss and from any scale of the start; the clip lets no step be much larger.
    There is no state but the count of steps: where Adam keeps two numbers for
    each weight, nothing is kept.

    When, and when not: to train a scale-invariant encoder where memory is
    short, or where the scale of losses or starts is hard to control. Not for
    weights of which scale matters (heads, biases, affine norms at the end):
    give them an optimizer of their own by `keras.optimizers.MultiOptimizer`,
    and ask `keras_moe.optimizers.assert_scale_invariant` which these are. At
    equal steps it is behind Adam, in the paper by 7 %; by how much here, from
    starts of two scales, `python -m benchmarks.article` tells. Experimental.

    Source: [Li et al., 2022](https://arxiv.org/abs/2202.00980), section 3.

    Args:
        learning_rate: e, a number or a schedule.
        weight_decay: w; all weights decay. About `1 / (e w)` updates pass
            until the scale of the start is forgotten.
        clip_factor: at least 1, the paper's `sqrt(C)`; `None` never clips.
        name: name of the optimizer.
        **kwargs: see `keras.optimizers.Optimizer`. Averages of weights and
            accumulated gradients are state.

    Raises:
        ValueError: if an argument is out of its range.
        RuntimeError: in several replicas of `tf.distribute`, none of which has
            the whole gradient.

    Weights that are all zero have a threshold of zero, and stay zero; so does
    a gradient of zero.

    Example:

    >>> encoder = keras_moe.optimizers.RelativeClipSGD(0.3, weight_decay=3e-3)
    >>> optimizer = keras.optimizers.MultiOptimizer(
    ...     keras.optimizers.OptimizerMap(
    ...         keras.optimizers.Adam(1e-3), {"encoder/.*": encoder}
    ...     )
    ... )
    >>> inputs = keras.Input((4,))
    >>> x = keras.layers.Dense(8, use_bias=False, name="encoder")(inputs)
    >>> x = keras.layers.LayerNormalization(
    ...     center=False, scale=False, epsilon=1e-20
    ... )(x)
    >>> model = keras.Model(inputs, keras.layers.Dense(1)(x))
    >>> model.compile(optimizer, "mse")
    >>> history = model.fit(np.eye(4), np.ones((4, 1)), verbose=0)
    >>> [variable.name for variable in encoder.variables]
    ['iteration', 'learning_rate']
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        weight_decay: float = 1e-3,
        clip_factor: float | None = 2.0,
        name: str = "relative_clip_sgd",
        **kwargs,
    ):
        if weight_decay is None:
            raise ValueError(
                "`weight_decay` must be positive: the threshold follows from "
                "it. Received: weight_decay=None."
            )
        check_positive(weight_decay=weight_decay)
        if clip_factor is not None and not 1 <= clip_factor < math.inf:
            raise ValueError(
                "`clip_factor` must be at least 1, or None: below, weights "
                "that have settled would be clipped at every step. Received: "
                f"clip_factor={clip_factor}."
            )
        super().__init__(
            learning_rate, weight_decay=weight_decay, name=name, **kwargs
        )
        self.clip_factor = clip_factor

    def apply(
        self, grads: Sequence[Tensor], trainable_variables: Any = None
    ) -> None:
        """Updates weights by their gradients.

        Args:
            grads: the gradients, `None` where a weight has none.
            trainable_variables: the weights, by default those that the
                optimizer was built for.
        """
        if num_replicas() > 1:
            raise RuntimeError(
                "`RelativeClipSGD` needs the norm of the whole gradient, of "
                "which each replica has a part: train in one replica. "
                f"Received: {num_replicas()} replicas."
            )
        weights = trainable_variables
        if weights is None:
            weights = trained_variables(self) if self.built else []
        weights = list(weights)
        updated = [
            weight
            for gradient, weight in zip(grads, weights, strict=False)
            if gradient is not None
        ]
        # Keras takes weights in an attribute for state of the optimizer; what a
        # function holds it does not see.
        self._updated = lambda: updated
        super().apply(grads, trainable_variables)

    def _clip_gradients(self, grads: list[Tensor]) -> list[Tensor]:
        """Clips as Keras was told to, and then all by one factor.

        Keras calls this right before it decays the weights, with the mean of
        gradients that were accumulated.
        """
        grads = super()._clip_gradients(
            [ops.convert_to_tensor(gradient) for gradient in grads]
        )
        scale = self.clip_scale(grads, self._updated())
        return [
            gradient * ops.cast(scale, gradient.dtype) for gradient in grads
        ]

    def clip_scale(
        self, gradients: Sequence[Tensor], weights: Sequence[Any]
    ) -> Tensor:
        """Returns the factor of the next step's gradients; 1 does not clip.

        Args:
            gradients: of all weights that are trained.
            weights: the weights.

        Returns:
            A scalar in [0, 1].
        """
        length, size = _norm(gradients), _norm(weights)
        if self.clip_factor is None:
            return ops.ones_like(length)
        rate = ops.cast(self.learning_rate, length.dtype)
        # A rate of 0 moves nothing, whatever is clipped: it must not divide.
        rate = ops.where(rate > 0, rate, 1)
        # |g| > clip_factor sqrt(2 w / e) |x|, with nothing that could be 0 / 0,
        # and no squares, which overflow or vanish.
        most = self.clip_factor * ops.sqrt(2 * self.weight_decay / rate) * size
        clipped = length > most
        return ops.where(clipped, most / ops.where(clipped, length, 1), 1)

    def update_step(
        self, gradient: Tensor, variable: Any, learning_rate: Tensor
    ) -> None:
        """Moves one weight against its gradient."""
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * ops.cast(gradient, variable.dtype))

    def exclude_from_weight_decay(self, *_args: Any, **_kwargs: Any) -> None:
        """Refuses: where there is no decay there is no threshold."""
        raise ValueError(
            "`RelativeClipSGD` decays all of its weights: the threshold "
            "follows from it. Give other weights an optimizer of their own, by "
            "`keras.optimizers.MultiOptimizer`."
        )

    def get_config(self) -> Config:
        return {**super().get_config(), "clip_factor": self.clip_factor}


def _norm(tensors: Sequence[Any]) -> Tensor:
    """Returns the norm of all, in float32 or, if any is, float64.

    Squares are those of shares of the largest entry.
    """
    dtype = keras.backend.result_type(
        "float32", *{keras.backend.standardize_dtype(t.dtype) for t in tensors}
    )
    cast = [ops.cast(t, dtype) for t in tensors]
    # A weight may have no entries: then the largest is 0.
    most = [ops.max(ops.abs(t), initial=0) for t in cast]
    largest = ops.max(ops.stack(most))
    unit = ops.where(largest > 0, largest, 1)
    squares = [ops.sum(ops.square(t / unit)) for t in cast]
    return largest * ops.sqrt(ops.sum(ops.stack(squares)))
