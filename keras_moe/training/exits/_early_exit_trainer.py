"""Training of all exits of a decoder at once."""

from typing import Any

import keras
from keras import ops

from keras_moe.generation import Exiting
from keras_moe.keras_internals import compile_metrics
from keras_moe.losses import enabled_exits
from keras_moe.losses import exit_layers
from keras_moe.losses import exit_weights
from keras_moe.losses._exit_weights import CURRICULA
from keras_moe.losses._replica_share import replica_share
from keras_moe.losses._weighted_loss import weighted_loss
from keras_moe.training._watched_batches import watch_batches
from keras_moe.training.exits._wrapping_model import WrappingModel
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_contract


class EarlyExitTrainer(WrappingModel):
    """Trains a model so that its decoder may stop after an early layer.

    All exits share the final norm and the head. The loss is a weighted mean
    of the loss that `compile` was given, over the exits. Logits of one exit
    are made, used and dropped at a time, and made again for the gradient:
    memory does not grow with exits times vocabulary (but XLA, with
    `jit_compile=True`, may undo that).

    The weights that are trained are those of `model`: `save` and `export` (and
    Keras's `ModelCheckpoint`) save and export it, without the trainer.

    Sources: [CALM, Schuster et al., 2022](https://arxiv.org/abs/2207.07061),
    section 4.1, for the weighted loss; [LayerSkip, Elhoushi et al.,
    2024](https://arxiv.org/abs/2404.16710), section 4.2, for the curricula.

    Args:
        model: a `keras_moe.generation.Exiting`, such as
            `keras_moe.models.SwitchTransformer`.
        min_exit_layer: the lowest exit, counted from 1.
        exit_interval: distance from one exit to the next. The last layer is
            always an exit.
        weighting: rule for the weights of the exits' losses, as in
            `keras_moe.losses.exit_weights`.
        early_exit_scale: factor of all weights but the last.
        curriculum: rule for which exits count at a step, as in
            `keras_moe.losses.enabled_exits`; by default all, always.
        curriculum_interval: `interval` of the curriculum `"rotating"`.
        curriculum_fraction: `fraction` of the curriculum `"gradual"`.
        num_steps: number of updates of the whole training, for the curriculum
            `"gradual"`.

    Call arguments:
        inputs: inputs of `model`.
        training: whether to train.

    Output:
        The states of the exits, `(batch, length, model_dim)` each, lowest
        first. Metrics given to `compile` see the logits of the last exit; the
        loss of each exit is reported as `exit_N_loss`.

    Raises:
        ValueError: if an argument is out of its range, or `model` has no
            trainable weights or a single decoder layer.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> trainer = keras_moe.training.EarlyExitTrainer(model)
    >>> trainer.compile("adam", keras_moe.losses.token_crossentropy)
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    >>> labels = np.array([[6, 7, 1, 0]])
    >>> history = trainer.fit(inputs, labels, verbose=0)
    >>> sorted(history.history)
    ['exit_1_loss', 'exit_2_loss', 'loss']
    """

    def __init__(
        self,
        model: Exiting,
        min_exit_layer: int = 1,
        exit_interval: int = 1,
        weighting: str = "linear",
        early_exit_scale: float = 1.0,
        curriculum: str | None = None,
        curriculum_interval: int = 2,
        curriculum_fraction: float = 0.5,
        num_steps: int | None = None,
        name: str = "early_exit_trainer",
    ):
        super().__init__(name=name)
        check_contract(Exiting, model=model)
        if model.config.num_decoder_layers < 2:
            raise ValueError(
                "`model` must have at least 2 decoder layers to exit early. "
                "Received: num_decoder_layers="
                f"{model.config.num_decoder_layers}."
            )
        if not model.trainable_weights:
            raise ValueError(
                "`model` must have trainable weights; after "
                "`ExitClassifierTrainer`, `model.trainable = True` thaws it. "
                "Received a model without any."
            )
        self.model = model
        self.config = model.config
        self.exits = exit_layers(
            model.config.num_decoder_layers, min_exit_layer, exit_interval
        )
        self.exit_weights = exit_weights(
            self.exits, weighting, early_exit_scale
        )
        if curriculum is not None:
            check_choice(CURRICULA, curriculum=curriculum)
        self.curriculum = curriculum
        self.curriculum_options: dict[str, Any] = {
            "interval": curriculum_interval,
            "fraction": curriculum_fraction,
            "num_steps": num_steps,
        }
        # Refuse options now that would fail in the first update.
        self._weights_at(0)
        self.exit_losses = [
            keras.metrics.Mean(name=f"exit_{layer}_loss")
            for layer in self.exits
        ]
        self.built = True

    def fit(self, x: Any = None, y: Any = None, *args: Any, **options: Any):
        """Trains as Keras does, after a look at the batches."""
        x = watch_batches(
            x,
            y,
            getattr(self.config, "pad_id", 0),
            options.get("sample_weight"),
        )
        return super().fit(x, y, *args, **options)

    def call(self, inputs: Any, training: bool | None = None) -> list[Tensor]:
        return self.model.exit_states(inputs, self.exits, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the weighted mean of the exits' losses, plus added losses."""
        loss_of = weighted_loss(self.loss)

        @keras.remat
        def exit_loss(state: Tensor) -> Tensor:
            return loss_of(y, self.model.logits(state), sample_weight)

        step = self.optimizer.iterations if training else None
        total = ops.zeros((), dtype="float32")
        for weight, state, metric in zip(
            ops.unstack(self._weights_at(step), num=len(self.exits)),
            y_pred,
            self.exit_losses,
            strict=True,
        ):
            value = exit_loss(state)
            # Weigh by the batch, as `loss` is: a last, smaller batch would
            # count as much as the others otherwise.
            metric.update_state(
                ops.stop_gradient(value), sample_weight=ops.shape(state)[0]
            )
            total = total + weight * value
        for extra in self.losses:
            total = total + ops.cast(ops.sum(extra), total.dtype)
        return total * replica_share()

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Updates the metrics of `compile` with the logits of the last exit."""
        logits = None
        if compile_metrics(self) is not None:
            logits = self.model.logits(y_pred[-1])
        return super().compute_metrics(x, y, logits, sample_weight)

    def _weights_at(self, step: Any) -> Tensor:
        """Returns the exits' weights at a step; `None` is evaluation."""
        weights = ops.convert_to_tensor(self.exit_weights, dtype="float32")
        if step is None:
            return weights
        weights = weights * enabled_exits(
            self.curriculum, self.exits, step, **self.curriculum_options
        )
        return weights / ops.sum(weights)
