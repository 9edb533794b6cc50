"""Training of a student beside a frozen teacher."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_moe.distillation._batch import Batch
from keras_moe.distillation._batch import labelled_examples
from keras_moe.distillation._batch import own_inputs
from keras_moe.distillation._batch import padding_mask
from keras_moe.distillation._checks import check_distillation
from keras_moe.distillation._checks import check_share
from keras_moe.distillation._input_perturbation import InputPerturbation
from keras_moe.distillation._input_perturbation import make_perturbation
from keras_moe.distillation._loss_list import as_lists
from keras_moe.distillation._loss_list import layers_of
from keras_moe.distillation._loss_list import weighted_sum
from keras_moe.distillation._named_outputs import LOGITS
from keras_moe.distillation._named_outputs import LayerKey
from keras_moe.distillation._named_outputs import NamedOutputs
from keras_moe.distillation._named_outputs import make_forward
from keras_moe.distillation.teachers._cached_teacher import teacher_inputs
from keras_moe.keras_internals import set_mask
from keras_moe.losses._replica_share import replica_share
from keras_moe.losses._weighted_loss import weighted_loss
from keras_moe.training._traced_once import TracedOnce
from keras_moe.training._watched_batches import watch_batches
from keras_moe.types import Config
from keras_moe.types import Tensor


class Distiller(TracedOnce):
    """Trains a student on labels and on the outputs of a frozen teacher.

    The loss is `w * student_loss + (1 - w) * distillation_loss`, plus every
    loss that the student's layers add by `add_loss`. Sample weights, masks and
    padding count in both parts. Teacher and student may have different dtype
    policies. The student runs once a batch, in evaluation without dropout.

    The teacher is no part of the distiller: weights, checkpoints, `save` and
    `export` hold the student alone. `keras.distillation.Distiller` is another
    class: it drops sample weights, masks and `add_loss`, and saves the teacher.
    `keras_moe.components.Distiller` is the TFX component around any of them.

    Source: [Hinton et al., 2015](https://arxiv.org/abs/1503.02531); for
    `input_perturbation`, [Teacher-Guided Training, Zaheer et al.,
    2022](https://arxiv.org/abs/2208.06825).

    Args:
        teacher: the teacher, with one output; it is frozen (`trainable`
            becomes false). See also `load_teacher` and `CachedTeacher`.
        student: the student, with one output.
        distillation_losses: one or several losses: `WeightedDistillationLoss`
            or Keras's own, which see neither masks nor weights and are
            refused for batches that have them.
        distillation_loss_weights: factor of each, 1 by default.
        student_loss_weight: w, from 0 to 1.
        pad_id: the label that marks padding; `None` if there is none.
        name: name of the model.
        input_perturbation: a function from inputs to inputs of the same
            structure, shapes and dtypes, such as one that adds noise; or a
            Keras layer, called with `training=True`. In `fit` alone, teacher
            and student both read what it returns. No gradient flows through
            it, and its weights, if it has any, are neither trained nor saved.
            Random state goes into checkpoints if it is an attribute
            `seed_generator`, as in Keras's layers.
        student_layers: layers of the student whose outputs are needed beside
            those that losses compare.

    Call arguments:
        inputs: the student's inputs. A dictionary may hold `"labelled"`, bool
            `(batch,)`: where it is false, the label is not trusted, and only
            the teacher counts.
        training: whether to train.

    Output:
        The student's outputs by name: `"logits"`, and `"hidden_state/LAYER"`
        for each layer that a loss compares or `student_layers` names.
        `predict` gives the logits alone. The metrics `student_loss`,
        `distillation_loss` and `total_loss` are the parts of the loss.

    Raises:
        ValueError: if an argument is out of its range, or a layer of a
            distillation loss does not exist.
        RuntimeError: on a backend other than TensorFlow.

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
    >>> distiller = keras_moe.distillation.Distiller(
    ...     teacher,
    ...     student,
    ...     keras_moe.distillation.TokenDistillation(temperature=2.0),
    ...     input_perturbation=keras.layers.GaussianNoise(0.1),
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
        distillation_losses: Any,
        distillation_loss_weights: Any = None,
        student_loss_weight: float = 0.5,
        pad_id: int | None = None,
        name: str = "distiller",
        *,
        input_perturbation: InputPerturbation | None = None,
        student_layers: Sequence[LayerKey] = (),
    ):
        check_share(student_loss_weight=student_loss_weight)
        losses, weights = as_lists(
            distillation_losses, distillation_loss_weights
        )
        check_distillation(teacher, student)
        for loss in losses:
            loss.validate_model_compatibility(teacher, student)
        teacher_forward = make_forward(
            teacher, layers_of(losses, "teacher"), "teacher"
        )
        layers = [*layers_of(losses, "student"), *student_layers]
        student_forward = make_forward(
            student, list(dict.fromkeys(layers)), "student"
        )
        perturb = input_perturbation
        if perturb is not None:
            perturb = make_perturbation(perturb, teacher)
        super().__init__(
            name=name,
            # `compile` scales losses by this policy: it is the student's.
            dtype=student.dtype_policy,
            # Each layer of the student casts for itself.
            autocast=False,
        )
        # Keras tracks every model that it finds in an attribute; what a
        # function holds it does not see.
        self._held_teacher = lambda: teacher
        self._teacher_forward = teacher_forward
        self._student_forward = student_forward
        self._perturb = perturb
        self.student = student
        self.distillation_losses = losses
        self.distillation_loss_weights = weights
        self.student_loss_weight = float(student_loss_weight)
        self.pad_id = pad_id
        if hasattr(student, "config"):
            self.config = student.config
        # Tracked, so that projections are trained with the student.
        self.projections = [
            loss.projection_layer
            for loss in losses
            if getattr(loss, "projection_layer", None) is not None
        ]
        # Tracked: a training that is resumed must not draw the same noise.
        self.perturbation_seed = getattr(
            input_perturbation, "seed_generator", None
        )
        self.student_loss_tracker = keras.metrics.Mean(name="student_loss")
        self.distillation_loss_tracker = keras.metrics.Mean("distillation_loss")
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        teacher.trainable = False
        if student.built:
            self.built = True

    @property
    def teacher(self) -> keras.Model:
        """The teacher."""
        return self._held_teacher()

    def __dir__(self) -> list[str]:
        # Keras saves every model that `dir` leads to: `save_weights` would
        # write the teacher's weights into each file.
        return [name for name in super().__dir__() if name != "teacher"]

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
            loss: the student's loss of labels and logits.
            metrics: a list of metrics of labels and logits.
            **kwargs: other arguments of `keras.Model.compile`, without
                `loss_weights`.

        Raises:
            ValueError: if there is no loss, `metrics` is no list, or there are
                `loss_weights`.
        """
        if kwargs.get("loss_weights") is not None:
            raise ValueError(
                "`loss_weights` must be left out: `student_loss_weight` and "
                "`distillation_loss_weights` mix the losses. Received: "
                f"loss_weights={kwargs['loss_weights']!r}."
            )
        if metrics is not None and not isinstance(metrics, list | tuple):
            raise ValueError(
                f"`metrics` must be a list. Received: metrics={metrics!r}."
            )
        self._weighted_student_loss = weighted_loss(loss)
        super().compile(optimizer, loss=None, metrics=metrics, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> NamedOutputs:
        return self._student_forward(own_inputs(inputs), training)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **options: Any):
        """Trains as Keras does, after a look at the batches."""
        x = watch_batches(x, y, self.pad_id, options.get("sample_weight"))
        return super().fit(x, y, *args, **options)

    @property
    def has_own_train_step(self) -> bool:
        """Whether `train_step` does more than that of Keras."""
        derived = type(self).train_step is not Distiller.train_step
        return derived or self._perturb is not None

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Makes one update, on perturbed inputs if so asked for."""
        if self._perturb is not None:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
            data = (self._perturb(x), y, sample_weight)
        return super().train_step(data)

    def predict_step(self, data: Any) -> Tensor:
        """Returns the student's logits for one batch."""
        return super().predict_step(data)[LOGITS]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: NamedOutputs | None = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the mixed loss, plus the losses that layers add.

        Args:
            x: the inputs, as teacher and student read them.
            y: the labels; `None` leaves the student's loss out.
            y_pred: the student's outputs by name; `None` runs the student.
            sample_weight: `[batch]` or `[batch, length]`.
            training: whether to train.
        """
        outputs = self(x, training=training) if y_pred is None else y_pred
        logits = outputs[LOGITS]
        batch = Batch(
            y,
            padding_mask(x, y, logits, self.pad_id, self.student),
            sample_weight,
            labelled_examples(x),
        )
        weight = self.student_loss_weight
        student_loss = distillation_loss = ops.zeros((), "float32")
        if weight > 0 and y is not None:
            student_loss = self.compute_student_loss(outputs, batch)
        if weight < 1:
            distillation_loss = self.compute_distillation_loss(
                self.teacher_outputs(x), outputs, batch
            )
        total = weight * student_loss + (1.0 - weight) * distillation_loss
        for extra in self.losses:
            total = total + ops.cast(ops.sum(extra), total.dtype)
        for tracker, value in (
            (self.student_loss_tracker, student_loss),
            (self.distillation_loss_tracker, distillation_loss),
            (self.total_loss_tracker, total),
        ):
            # Weighted by rows, as Keras weights `loss`: a smaller last batch
            # counts less.
            tracker.update_state(
                ops.stop_gradient(value), sample_weight=ops.shape(logits)[0]
            )
        return total * replica_share()

    def compute_student_loss(
        self, outputs: NamedOutputs, batch: Batch
    ) -> Tensor:
        """Returns the loss of the student's logits against the labels."""
        return self.loss_of_labels(outputs[LOGITS], batch)

    def compute_distillation_loss(
        self, teacher: NamedOutputs, student: NamedOutputs, batch: Batch
    ) -> Tensor:
        """Returns the weighted sum of the distillation losses."""
        return weighted_sum(self.weighted_losses(), teacher, student, batch)

    def loss_of_labels(self, logits: Tensor, batch: Batch) -> Tensor:
        """Returns `compile`'s loss of some logits against the labels."""
        if batch.mask is not None:
            logits = ops.cast(logits, "float32")
            # Keras's own losses leave out what the mask of logits does.
            set_mask(logits, batch.mask)
        return self._weighted_student_loss(
            batch.labels, logits, batch.label_weight()
        )

    def weighted_losses(self) -> list[tuple[Any, float]]:
        """Returns the distillation losses and their weights."""
        weights = self.distillation_loss_weights
        return list(zip(self.distillation_losses, weights, strict=True))

    def teacher_outputs(self, x: Any) -> NamedOutputs:
        """Returns the teacher's outputs by name, cut off from gradients."""
        outputs = self._teacher_forward(teacher_inputs(self.teacher, x), False)
        return keras.tree.map_structure(ops.stop_gradient, outputs)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: NamedOutputs, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Updates `compile`'s metrics with the student's logits."""
        return super().compute_metrics(x, y, y_pred[LOGITS], sample_weight)

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
