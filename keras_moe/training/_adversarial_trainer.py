"""Training on inputs that were changed for the worse."""

from typing import Any

import keras
from keras import ops

from keras_moe.keras_internals import flatten_layers
from keras_moe.layers._float_inputs import check_float
from keras_moe.training.exits._wrapping_model import WrappingModel
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_positive
from keras_moe.validation import check_size


class AdversarialTrainer(WrappingModel):
    """Fine-tunes a model on inputs by which an attack raises its loss.

    The attack begins at a random point around each input, and takes
    `num_steps` steps along the gradient of the loss, none of them out of the
    `radius`. The loss is a mixture of that of inputs as they are and of those.
    Evaluation and prediction are those of the model, on inputs as they are.

    Rows of the input that a `keras.layers.Masking` of the model hides are
    padding, and stay as they are: moved, they would count. Padding that a model
    finds in another way is moved.

    With `keras_moe.distillation.Distiller`, of which the fine-tuned model is
    then the teacher, this follows DAFT: fine-tune a trained model adversarially
    and distil it. DAFT also changes the attack, in a way that is not public;
    here it is the well-known one.

    When, and when not: against small changes of inputs that are meant to
    mislead. For other shifts measure first: where a simple cue misled, models
    fine-tuned so relied on it more, in our trials and in those of [Shah et
    al., 2020](https://arxiv.org/abs/2006.07710)
    (`python -m benchmarks.article`). Experimental.

    Sources: following [DAFT, Nasery et al., 2022](
    https://arxiv.org/abs/2208.09139); the attack of [Madry et al., 2017](
    https://arxiv.org/abs/1706.06083).

    Args:
        model: a model of one input of floating-point numbers, built.
        radius: how far an input may be moved.
        num_steps: steps of the attack.
        step_size: length of a step; `None` for `2.5 * radius / num_steps`.
        norm: what the radius bounds: `"inf"` the largest change of a number,
            `"2"` the root of the sum of their squares.
        alpha: share of the attacked inputs in the loss, from 0, which is plain
            training, to 1.
        bounds: the least and largest number that an input may hold, if any. A
            number that is out of them already is moved by no more than the
            radius, and no further out.
        seed: seed of the random starts.

    Raises:
        ValueError: if an argument is out of its range, `model` has no trainable
            weights, or is called on anything but one tensor of numbers.
        RuntimeError: on another backend than TensorFlow.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> trainer = keras_moe.training.AdversarialTrainer(model, radius=0.1)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> trainer.compile("adam", loss)
    >>> x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])
    >>> history = trainer.fit(x, y, verbose=0)
    >>> attacked = trainer.attack(x, y)
    >>> trainer.evaluate(attacked, y, verbose=0) > trainer.evaluate(
    ...     x, y, verbose=0
    ... )
    True
    """

    def __init__(
        self,
        model: keras.Model,
        radius: float,
        num_steps: int = 5,
        step_size: float | None = None,
        norm: str = "inf",
        alpha: float = 1.0,
        bounds: tuple[float, float] | None = None,
        seed: int | None = None,
        name: str = "adversarial_trainer",
    ):
        # `compile` scales losses by this policy: it is the model's.
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "`AdversarialTrainer` trains on the TensorFlow backend alone. "
                f"Received: {keras.backend.backend()!r}."
            )
        check_positive(radius=radius, step_size=step_size)
        check_size(num_steps=num_steps)
        check_choice(("inf", "2"), norm=norm)
        if not 0 <= alpha <= 1:
            raise ValueError(
                f"`alpha` must be in [0, 1]. Received: alpha={alpha}."
            )
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(
                "`bounds` must be a number and a larger one. Received: "
                f"bounds={bounds}."
            )
        if not model.trainable_weights:
            raise ValueError(
                "`model` must be built and have trainable weights. Received a "
                "model without any."
            )
        self.model = model
        self.radius = radius
        self.num_steps = num_steps
        self.step_size = step_size or 2.5 * radius / num_steps
        self.norm = norm
        self.alpha = alpha
        self.bounds = bounds
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.model(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the loss; in training, mixed with that of the attack."""
        # First, while the losses that layers add are those of this call.
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training or not self.alpha:
            return loss
        attacked = self.attack(x, y, sample_weight)
        worse = super().compute_loss(
            x, y, self(attacked, training=True), sample_weight, training
        )
        if self.alpha == 1:
            return worse
        return (1 - self.alpha) * loss + self.alpha * worse

    def attack(self, x: Tensor, y: Any, sample_weight: Any = None) -> Tensor:
        """Returns inputs near `x`, of which the model's loss is larger.

        The model runs as in evaluation: no state of its moves.

        Args:
            x: floating point `(batch, ...)`.
            y: labels, as for `fit`.
            sample_weight: weights, as for `fit`; what weighs nothing is moved
                at random.

        Raises:
            ValueError: if `x` is not one tensor of floating-point numbers.
        """
        import tensorflow as tf

        if isinstance(x, dict | list | tuple):
            raise ValueError(
                "`x` must be one tensor, of which each number may be changed. "
                f"Received: x of type {type(x).__name__}."
            )
        clean = ops.convert_to_tensor(x)
        check_float(x=clean)
        clean = ops.stop_gradient(clean)
        padding = self._padding(clean)
        start = keras.random.uniform(
            ops.shape(clean), -1.0, 1.0, clean.dtype, self.seed_generator
        )
        moved = self._near(clean + self.radius * start, clean, padding)
        for _ in range(self.num_steps):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(moved)
                loss = super().compute_loss(
                    clean, y, self.model(moved, training=False), sample_weight
                )
                # In half precision a small gradient would be 0.
                loss = self.optimizer.scale_loss(loss)
            step = self._direction(tape.gradient(loss, moved))
            moved = self._near(moved + self.step_size * step, clean, padding)
        return ops.stop_gradient(moved)

    def _direction(self, gradient: Tensor) -> Tensor:
        """Returns the step of length 1 that raises the loss most."""
        if self.norm == "inf":
            return ops.sign(gradient)
        length = _length(gradient)
        return gradient / ops.where(length > 0, length, 1)

    def _padding(self, clean: Tensor) -> Tensor | None:
        """Returns bool `(batch, ..., 1)`, true for rows that `Masking` hides.

        `None` if the model has no such layer.
        """
        padding = None
        for layer in flatten_layers(self.model):
            if isinstance(layer, keras.layers.Masking):
                read = ops.cast(clean, layer.compute_dtype)
                hidden = ops.expand_dims(~layer.compute_mask(read), -1)
                padding = hidden if padding is None else padding | hidden
        return padding

    def _near(
        self, moved: Tensor, clean: Tensor, padding: Tensor | None
    ) -> Tensor:
        """Returns what is nearest to `moved` and may be an input."""
        change = moved - clean
        if padding is not None:
            change = ops.where(padding, 0, change)
        if self.norm == "inf":
            change = ops.clip(change, -self.radius, self.radius)
        else:
            length = _length(change)
            change = change * ops.where(
                length > self.radius,
                self.radius / ops.where(length > 0, length, 1),
                1,
            )
        moved = clean + change
        if self.bounds is None:
            return moved
        least, most = self.bounds
        return ops.clip(
            moved, ops.minimum(clean, least), ops.maximum(clean, most)
        )


def _length(x: Tensor) -> Tensor:
    """Returns the norm of each example, to be broadcast to `x`.

    Squares are those of shares of the largest entry: of small gradients they
    would be 0.
    """
    axes = tuple(range(1, len(x.shape)))
    largest = ops.max(ops.abs(x), axis=axes, keepdims=True, initial=0)
    shares = x / ops.where(largest > 0, largest, 1)
    squares = ops.sum(ops.square(shares), axis=axes, keepdims=True)
    return largest * ops.sqrt(squares)
