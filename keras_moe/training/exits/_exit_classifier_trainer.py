"""Training of the learned confidence, after that of the model."""

from typing import Any

from keras import ops

from keras_moe.generation import ExitClassifying
from keras_moe.generation import Exiting
from keras_moe.losses import exit_classifier_loss
from keras_moe.losses._exit_classifier import EXIT_CLASSIFIER_LOSSES
from keras_moe.losses._replica_share import replica_share
from keras_moe.ops._token_ids import is_left_out
from keras_moe.training.exits._wrapping_model import WrappingModel
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_contract


class ExitClassifierTrainer(WrappingModel):
    """Trains a model's exit classifier to tell when an early layer is right.

    A layer is right if the likeliest token after it is the likeliest after the
    last layer: the model itself gives the labels. Targets given to `fit` only
    show where padding is. Nothing but the classifier is trained: the model is
    frozen (`model.trainable = True` thaws it) and runs as in decoding, without
    dropout. `save` and `export` are those of the model.

    Source: [CALM, Schuster et al., 2022](https://arxiv.org/abs/2207.07061),
    section 3.5.

    Args:
        model: a `keras_moe.generation.ExitClassifying`, such as a
            `keras_moe.models.SwitchTransformer` with `exit_classifier=True`.
        kind: kind of loss, as in `keras_moe.losses.exit_classifier_loss`.

    Call arguments:
        inputs: inputs of `model`.

    Output:
        The state of each layer that its exit sees, `(batch, length,
        model_dim)`, lowest layer first.

    Raises:
        ValueError: if the model has no classifier or a single decoder layer.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0, exit_classifier=True
    ... )
    >>> trainer = keras_moe.training.ExitClassifierTrainer(model)
    >>> trainer.compile("adam")
    >>> ids = np.array([[5, 6, 7, 1]])
    >>> inputs = {"encoder_token_ids": ids, "decoder_token_ids": ids}
    >>> history = trainer.fit(inputs, ids, verbose=0)
    >>> [weight.path for weight in trainer.trainable_weights]
    ['switch_transformer/exit_classifier/kernel', \
'switch_transformer/exit_classifier/bias']
    """

    def __init__(
        self,
        model: ExitClassifying,
        kind: str = "independent",
        name: str = "exit_classifier_trainer",
    ):
        super().__init__(name=name)
        check_choice(EXIT_CLASSIFIER_LOSSES, kind=kind)
        check_contract(Exiting, model=model)
        if not model.config.exit_classifier:
            raise ValueError(
                "`model` must have `exit_classifier=True`. Received: "
                "exit_classifier=False."
            )
        check_contract(ExitClassifying, model=model)
        if model.config.num_decoder_layers < 2:
            raise ValueError(
                "`model` must have at least 2 decoder layers to exit early. "
                "Received: num_decoder_layers=1."
            )
        self.model = model
        self.kind = kind
        self.layer_numbers = range(1, model.config.num_decoder_layers + 1)
        model.trainable = False
        model.exit_classifier.trainable = True
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> list[Tensor]:
        return self.model.exit_states(
            inputs, self.layer_numbers, training=False
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the loss of the classifier alone."""
        states = [ops.stop_gradient(state) for state in y_pred]
        tokens = [ops.argmax(self.model.logits(state), -1) for state in states]
        agrees = ops.stack([each == tokens[-1] for each in tokens[:-1]])
        logits = ops.stack(
            [self.model.exit_logits(state) for state in states[:-1]]
        )
        real = ops.logical_not(is_left_out(y, self.model.config.pad_id))
        loss = exit_classifier_loss(
            logits, agrees, real, self.kind, sample_weight
        )
        return loss * replica_share()

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Reports the loss; there is no prediction for other metrics."""
        return self.get_metrics_result()
