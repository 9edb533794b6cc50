"""Inputs that a generator makes near those of a batch."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_moe.backend import gradient
from keras_moe.losses import token_kl_divergence
from keras_moe.types import Tensor
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_positive
from keras_moe.validation import check_size

Map = Callable[[Tensor], Tensor]


class LatentExploration:
    """A generator as an `input_perturbation`: moves codes, and decodes them.

    Random exploration, the default, adds noise to the code of each example:
    `z' = z + noise_scale * std(z) * N(0, 1)`, with the deviation of each
    dimension over the rows of the batch whose codes are finite. Of one row
    there is none: the root mean square of its code takes its place. Gradient
    exploration, with a teacher and a
    student, goes on from there to where they disagree: `num_steps` steps of
    length `step_size` up the KL divergence of their answers.

    Where noise on the inputs themselves makes sense, as on pixels, it is the
    baseline, and was as good where both were measured: use a generator where
    it makes none.

    Source: [Teacher-Guided Training, Zaheer et al.,
    2022](https://arxiv.org/abs/2208.06825).

    Args:
        encoder: from inputs to codes, `[batch, dim]`; a Keras model, which is
            called as in inference, or a function.
        decoder: from codes to inputs, likewise.
        noise_scale: of the noise, in deviations of codes.
        teacher: for gradient exploration: gives logits. It must be the
            distiller's for the exploration to do what it says.
        student: for gradient exploration: gives logits.
        num_steps: for gradient exploration. Each costs a forward and a
            backward pass of decoder, teacher and student.
        step_size: for gradient exploration, in the units of codes.
        seed: of the noise; `None` for any.

    Call arguments:
        inputs: one tensor, as the models read it.

    Raises:
        ValueError: if an argument is out of its range, or of teacher and
            student one alone is given.
        RuntimeError: when called, for gradient exploration on a backend other
            than TensorFlow.

    Example:

    >>> encoder, decoder, teacher, student = (
    ...     keras.Sequential([keras.Input((given,)), keras.layers.Dense(made)])
    ...     for given, made in ((8, 2), (2, 8), (8, 3), (8, 3))
    ... )
    >>> distiller = keras_moe.distillation.SparseToDenseDistiller(
    ...     teacher,
    ...     student,
    ...     input_perturbation=keras_moe.distillation.LatentExploration(
    ...         encoder, decoder, noise_scale=0.5
    ...     ),
    ... )
    """

    def __init__(
        self,
        encoder: Map,
        decoder: Map,
        noise_scale: float = 1.0,
        *,
        teacher: Map | None = None,
        student: Map | None = None,
        num_steps: int = 3,
        step_size: float = 0.5,
        seed: int | None = None,
    ):
        check_not_negative(noise_scale=noise_scale)
        check_size(num_steps=num_steps)
        check_positive(step_size=step_size)
        if (teacher is None) != (student is None):
            given, lacking = (
                ("student", "teacher")
                if teacher is None
                else ("teacher", "student")
            )
            raise ValueError(
                "`teacher` and `student` must be given together: their "
                f"disagreement is explored. Received: {given} alone, no "
                f"{lacking}."
            )
        self.encoder = encoder
        self.decoder = decoder
        self.noise_scale = noise_scale
        self.teacher = teacher
        self.student = student
        self.num_steps = num_steps
        self.step_size = step_size
        # A distiller keeps it in checkpoints.
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Returns other inputs, of the same shape and dtype."""
        codes = ops.cast(_infer(self.encoder, inputs), "float32")
        noise = keras.random.normal(ops.shape(codes), seed=self.seed_generator)
        codes = codes + self.noise_scale * _spread(codes) * noise
        if self.teacher is not None:
            for _ in range(self.num_steps):
                slope = gradient(self._disagreement, codes)
                codes = codes + self.step_size * _directions(slope)
        made = ops.stop_gradient(_infer(self.decoder, codes))
        return ops.cast(made, inputs.dtype)

    def _disagreement(self, codes: Tensor) -> Tensor:
        made = _infer(self.decoder, codes)
        return token_kl_divergence(
            _infer(self.teacher, made), _infer(self.student, made)
        )


def _infer(model: Any, inputs: Tensor) -> Tensor:
    if isinstance(model, keras.layers.Layer):
        return model(inputs, training=False)
    return model(inputs)


def _spread(codes: Tensor) -> Tensor:
    """Returns the deviation of each dimension over finite rows, `[1, dim]`."""
    finite = ops.all(ops.isfinite(codes), axis=-1, keepdims=True)
    codes = ops.where(finite, codes, 0.0)
    rows = ops.sum(ops.cast(finite, "float32"))
    number = ops.maximum(rows, 1.0)
    mean = ops.sum(codes, axis=0, keepdims=True) / number
    from_mean = ops.where(finite, codes - mean, 0.0)
    variance = ops.sum(from_mean * from_mean, axis=0, keepdims=True) / number
    # Each row but one is 0.
    length = ops.max(ops.sqrt(ops.mean(codes * codes, axis=-1)))
    return ops.where(rows > 1.0, ops.sqrt(variance), length)


def _directions(slope: Tensor) -> Tensor:
    """Returns rows of length 1; 0 where a slope is none, or no number."""
    slope = ops.where(ops.isfinite(slope), slope, 0.0)
    length = ops.sqrt(ops.sum(slope * slope, axis=-1, keepdims=True))
    return slope / ops.maximum(length, 1e-12)
