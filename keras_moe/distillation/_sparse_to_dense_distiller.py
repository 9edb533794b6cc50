"""Distillation of logits with the defaults of Switch Transformers."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_moe.distillation._checks import check_configs
from keras_moe.distillation._checks import check_graphs
from keras_moe.distillation._checks import check_logits
from keras_moe.distillation._checks import first_examples
from keras_moe.distillation._distiller import Distiller
from keras_moe.distillation._input_perturbation import InputPerturbation
from keras_moe.distillation._named_outputs import LOGITS
from keras_moe.distillation._named_outputs import LayerKey
from keras_moe.distillation._token_distillation import TokenDistillation
from keras_moe.losses._token_crossentropy import token_crossentropy


class SparseToDenseDistiller(Distiller):
    """A `Distiller` of logits over the same classes, with checked models.

    With the defaults, the mix of Switch Transformers: 0.75 times the loss
    against the labels plus 0.25 times the KL divergence from the teacher.
    Teacher and student may be of any kind, with one output: a tensor of logits
    over the same classes.

    Source: [Fedus et al., 2021](https://arxiv.org/abs/2101.03961), section
    4.2.

    Args:
        teacher: as for `Distiller`.
        student: as for `Distiller`.
        distillation_losses: as for `Distiller`; `None` for
            `TokenDistillation()`.
        distillation_loss_weights: as for `Distiller`.
        student_loss_weight: as for `Distiller`.
        pad_id: the label that marks padding; `None` for `student.config`'s,
            if it has one.
        name: name of the model.
        input_perturbation: as for `Distiller`.
        student_layers: as for `Distiller`.

    Call arguments:
        inputs: as for `Distiller`.
        training: as for `Distiller`.

    Output:
        As of `Distiller`.

    Raises:
        ValueError: as `Distiller`, or if the models' classes or inputs differ;
            by `fit`, before the first update, if the teacher's outputs for the
            first batch do not fit the student's or are not numbers.

    Example:

    >>> teacher, student = (
    ...     keras.Sequential(
    ...         [
    ...             keras.Input((8,)),
    ...             keras.layers.Dense(units, activation="relu"),
    ...             keras.layers.Dense(3),
    ...         ]
    ...     )
    ...     for units in (64, 4)
    ... )
    >>> distiller = keras_moe.distillation.SparseToDenseDistiller(
    ...     teacher, student
    ... )
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> distiller.compile("adam", loss)
    >>> x, y = np.random.rand(6, 8), np.arange(6) % 3
    >>> history = distiller.fit(x, y, verbose=0)
    >>> sorted(history.history)
    ['distillation_loss', 'loss', 'student_loss', 'total_loss']
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        distillation_losses: Any = None,
        distillation_loss_weights: Any = None,
        student_loss_weight: float = 0.75,
        pad_id: int | None = None,
        name: str = "sparse_to_dense_distiller",
        *,
        input_perturbation: InputPerturbation | None = None,
        student_layers: Sequence[LayerKey] = (),
    ):
        if distillation_losses is None:
            distillation_losses = TokenDistillation()
        if pad_id is None:
            pad_id = getattr(getattr(student, "config", None), "pad_id", None)
        check_configs(teacher, student)
        check_graphs(teacher, student)
        super().__init__(
            teacher,
            student,
            distillation_losses,
            distillation_loss_weights,
            student_loss_weight,
            pad_id,
            name,
            input_perturbation=input_perturbation,
            student_layers=student_layers,
        )

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Any = None,
        **kwargs,
    ) -> None:
        """Sets how the student learns.

        Args:
            optimizer: as for `Distiller`.
            loss: the student's loss of labels and logits; by default, if there
                is a `pad_id`, `keras_moe.losses.token_crossentropy`.
            metrics: as for `Distiller`.
            **kwargs: other arguments of `keras.Model.compile`.

        Raises:
            ValueError: if there is neither a loss nor a default.
        """
        if loss is None:
            if self.pad_id is None:
                raise ValueError(
                    "`loss` must be given for a student without a `pad_id`. "
                    "Received: loss=None."
                )
            pad_id = self.pad_id

            def loss(labels, logits, sample_weight=None):
                return token_crossentropy(
                    labels, logits, pad_id, sample_weight=sample_weight
                )

        super().compile(optimizer, loss, metrics, **kwargs)

    def fit(self, x: Any = None, *args, **kwargs) -> keras.callbacks.History:
        """Trains, as `keras.Model.fit`, after a look at the first batch.

        Raises:
            ValueError: if outputs for the first batch are no logits, are not
                numbers, or are over different classes.
        """
        examples = first_examples(x)
        if examples is not None:
            check_logits(
                self.teacher_outputs(examples)[LOGITS],
                self(examples, training=False)[LOGITS],
            )
        return super().fit(x, *args, **kwargs)
