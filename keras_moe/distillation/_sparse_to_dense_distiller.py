"""Training of a student under a teacher."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_moe.distillation._checks import check_logits
from keras_moe.distillation._checks import check_models
from keras_moe.distillation._checks import check_student_loss_weight
from keras_moe.distillation._checks import first_examples
from keras_moe.distillation._forward import OUTPUT
from keras_moe.distillation._forward import LayerKey
from keras_moe.distillation._forward import Outputs
from keras_moe.distillation._forward import make_forward
from keras_moe.distillation._inputs import labelled_examples
from keras_moe.distillation._inputs import own_inputs
from keras_moe.distillation._inputs import padding_mask
from keras_moe.distillation._loss_list import Batch
from keras_moe.distillation._loss_list import as_lists
from keras_moe.distillation._loss_list import distillation_loss_of
from keras_moe.distillation._loss_list import layer_of
from keras_moe.distillation._loss_list import output_key
from keras_moe.distillation.teachers._cached_teacher import teacher_inputs
from keras_moe.keras_internals import set_mask
from keras_moe.losses._replica_share import replica_share
from keras_moe.losses._token_crossentropy import token_crossentropy
from keras_moe.losses._weighted_loss import weighted_loss
from keras_moe.types import Config
from keras_moe.types import Tensor


class SparseToDenseDistiller(keras.distillation.Distiller):
    """Trains a student on labels and on what its teacher says of them.

    `w * student_loss + (1 - w) * distillation_loss`, plus all that the
    student's layers add by `add_loss`. With the defaults, the mix of Switch
    Transformers.

    It differs from its base class in that

    - sample weights, masks and padding count, in both parts;
    - auxiliary losses of the student count;
    - the student runs once for each batch, hidden states or not, and in
      evaluation as in evaluation;
    - teacher and student may have different dtype policies;
    - the teacher is not a part of it: weights, checkpoints, `save` and
      `export` hold the student alone.

    Teacher and student may be of any kind, with one output: a tensor of logits
    over the same classes.

    Source: [Fedus et al., 2021](https://arxiv.org/abs/2101.03961), section
    4.2.

    Args:
        teacher: the teacher; it is frozen (`trainable` becomes false). See
            also `load_teacher` and `CachedTeacher`.
        student: the student.
        distillation_losses: one or several `keras.distillation` losses;
            `None` for `TokenDistillation()`. Those of Keras itself see neither
            masks nor weights, and batches with weights are refused with them.
        distillation_loss_weights: factor of each, 1 by default.
        student_loss_weight: w, from 0 to 1.
        pad_id: the label that marks padding; `None` for `student.config`'s,
            if it has one.
        name: name of the model.

    Call arguments:
        inputs: what the student takes. A dictionary may hold `"labelled"`,
            bool `(batch,)`: where it is false, the label is not trusted, and
            only the teacher counts.
        training: whether to train.

    Output:
        The student's. The metrics `student_loss`, `distillation_loss` and
        `total_loss` say what the parts are.

    Raises:
        ValueError: if the models' classes or inputs differ, a layer of a
            distillation loss does not exist, or an argument is out of its
            range; by `fit`, before the first update, if the teacher's outputs
            for the first batch do not fit the student's or are not numbers.

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
    ):
        check_student_loss_weight(student_loss_weight)
        losses, weights = as_lists(
            distillation_losses, distillation_loss_weights
        )
        super().__init__(
            teacher,
            student,
            losses,
            weights,
            student_loss_weight,
            name=name,
            # Keras looks at it for whether losses must be scaled.
            dtype=student.dtype_policy
            if isinstance(student, keras.Model)
            else None,
            # Each layer of the student casts for itself.
            autocast=False,
        )
        if hasattr(student, "config"):
            self.config = student.config
            if pad_id is None:
                pad_id = getattr(student.config, "pad_id", None)
        self.pad_id = pad_id
        # Tracked, so that they are trained along.
        self.projections = [
            loss.projection_layer
            for loss in losses
            if getattr(loss, "projection_layer", None) is not None
        ]
        self._with_states = False
        if student.built:
            self.built = True

    def __setattr__(self, name: str, value: Any) -> None:
        # Tracked, the teacher would be saved with every checkpoint.
        if name == "teacher":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _validate_models(
        self, teacher: keras.Model, student: keras.Model
    ) -> None:
        check_models(teacher, student)

    def _create_multi_feature_extractors(self) -> None:
        self._teacher_forward = make_forward(
            self.teacher, self._layers_needed("teacher"), "teacher"
        )
        self._student_forward = make_forward(
            self.student, self._layers_needed("student"), "student"
        )

    def _layers_needed(self, role: str) -> list[LayerKey]:
        """Returns the layers of a model whose outputs are needed."""
        layers = [layer_of(loss, role) for loss in self.distillation_losses]
        return list(
            dict.fromkeys(layer for layer in layers if layer is not None)
        )

    # === Keras's training loop ===

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Any = None,
        **kwargs,
    ) -> None:
        """Sets how the student learns.

        Args:
            optimizer: the student's optimizer.
            loss: the student's loss of labels and logits; by default, for a
                student with a `config`, `keras_moe.losses.token_crossentropy`.
            metrics: a list of metrics of labels and student outputs.
            **kwargs: what `keras.Model.compile` takes.

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

        self._weighted_student_loss = weighted_loss(loss)
        super().compile(optimizer, loss, metrics, **kwargs)

    def fit(self, x: Any = None, *args, **kwargs) -> keras.callbacks.History:
        """Trains, as `keras.Model.fit`, after a look at the first batch."""
        examples = first_examples(x)
        if examples is not None:
            check_logits(
                self._run_teacher(examples)[OUTPUT],
                self(examples, training=False),
            )
        return super().fit(x, *args, **kwargs)

    def train_step(self, *args, **kwargs) -> Any:
        """Makes one update."""
        with self._student_states():
            return super().train_step(*args, **kwargs)

    def test_step(self, *args, **kwargs) -> Any:
        """Evaluates one batch."""
        with self._student_states():
            return super().test_step(*args, **kwargs)

    @contextlib.contextmanager
    def _student_states(self) -> Iterator[None]:
        """Lets `call` return hidden states, too, while a step is traced."""
        self._with_states = True
        try:
            yield
        finally:
            self._with_states = False

    def call(
        self, inputs: Any, training: bool | None = None, **kwargs
    ) -> Tensor | Outputs:
        inputs = own_inputs(inputs)
        if self._with_states:
            return self._student_forward(inputs, training)
        return self.student(inputs, training=training, **kwargs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the mixed loss, plus `add_loss`es.

        Args:
            x: the inputs.
            y: the labels; `None` leaves the student's loss out.
            y_pred: the student's outputs; `None` runs it.
            sample_weight: `[batch]` or `[batch, length]`.
            training: whether to train.
        """
        outputs = self._student_outputs(x, y_pred, training)
        batch = Batch(
            y,
            padding_mask(x, y, outputs[OUTPUT], self.pad_id, self.student),
            sample_weight,
            labelled_examples(x),
        )
        weight = self.student_loss_weight
        student_loss = distillation_loss = ops.zeros((), "float32")
        if weight > 0 and y is not None:
            student_loss = self.compute_student_loss(outputs, batch)
        if weight < 1:
            distillation_loss = self.compute_distillation_loss(
                self._run_teacher(x), outputs, batch
            )
        total = weight * student_loss + (1.0 - weight) * distillation_loss
        for extra in self.losses:
            total = total + ops.cast(ops.sum(extra), total.dtype)
        size = ops.shape(outputs[OUTPUT])[0]
        for tracker, value in (
            (self.student_loss_tracker, student_loss),
            (self.distillation_loss_tracker, distillation_loss),
            (self.total_loss_tracker, total),
        ):
            # As `loss` does it, where the last batch is smaller.
            tracker.update_state(ops.stop_gradient(value), sample_weight=size)
        return total * replica_share()

    def compute_student_loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Returns the loss of the student's outputs against the labels."""
        return self._loss_of_labels(outputs[OUTPUT], batch)

    def compute_distillation_loss(
        self, teacher: Outputs, student: Outputs, batch: Batch
    ) -> Tensor:
        """Returns the weighted sum of the distillation losses."""
        return self._of_outputs(
            teacher, student[OUTPUT], batch
        ) + self._of_states(teacher, student, batch)

    def _of_outputs(
        self, teacher: Outputs, logits: Tensor, batch: Batch
    ) -> Tensor:
        """Returns the losses that compare outputs."""
        total = ops.zeros((), "float32")
        for loss, weight in self._weighted_losses():
            if layer_of(loss, "student") is None:
                total = total + weight * distillation_loss_of(
                    loss, teacher[output_key(loss, "teacher")], logits, batch
                )
        return total

    def _of_states(
        self, teacher: Outputs, student: Outputs, batch: Batch
    ) -> Tensor:
        """Returns the losses that compare hidden states."""
        total = ops.zeros((), "float32")
        for loss, weight in self._weighted_losses():
            if layer_of(loss, "student") is not None:
                total = total + weight * distillation_loss_of(
                    loss,
                    teacher[output_key(loss, "teacher")],
                    student[output_key(loss, "student")],
                    batch,
                )
        return total

    def _weighted_losses(self) -> list[tuple[Any, float]]:
        return list(
            zip(
                self.distillation_losses,
                self.distillation_loss_weights,
                strict=True,
            )
        )

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Updates `compile`'s metrics with the student's outputs."""
        if isinstance(y_pred, dict):
            y_pred = y_pred[OUTPUT]
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _loss_of_labels(self, logits: Tensor, batch: Batch) -> Tensor:
        weights = batch.sample_weight
        if batch.labelled is not None:
            trusted = ops.cast(batch.labelled, "float32")
            if weights is None:
                weights = trusted
            else:
                weights = ops.cast(weights, "float32")
                for _ in range(len(weights.shape) - 1):
                    trusted = ops.expand_dims(trusted, -1)
                weights = weights * trusted
        if batch.mask is not None:
            logits = ops.cast(logits, "float32")
            # Where Keras's own losses look for a mask.
            set_mask(logits, batch.mask)
        return self._weighted_student_loss(batch.labels, logits, weights)

    def _student_outputs(self, x: Any, y_pred: Any, training: bool) -> Outputs:
        if isinstance(y_pred, dict):
            return y_pred
        if y_pred is not None and not self._layers_needed("student"):
            return {OUTPUT: y_pred}
        with self._student_states():
            return self(x, training=training)

    def _run_teacher(self, x: Any) -> Outputs:
        outputs = self._teacher_forward(teacher_inputs(self.teacher, x), False)
        return keras.tree.map_structure(ops.stop_gradient, outputs)

    # === What is kept is the student ===

    def save(self, filepath: Any, overwrite: bool = True, **kwargs) -> None:
        """Saves the student alone, as `keras.Model.save`."""
        self.student.save(filepath, overwrite=overwrite, **kwargs)

    def export(self, filepath: Any, *args, **kwargs) -> None:
        """Exports the student alone, as `keras.Model.export`."""
        self.student.export(filepath, *args, **kwargs)

    def get_config(self) -> Config:
        """Refuses: a distiller is made anew from its models."""
        raise NotImplementedError(
            "A distiller has no config. Save the student by `distiller.save`, "
            "the state of the training by `distiller.save_weights`, and make "
            "the distiller anew from its models."
        )
