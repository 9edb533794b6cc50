"""How sure a model is after a layer."""

from typing import Any

from keras import ops

from keras_moe.generation._early_exit_policy import EarlyExitPolicy
from keras_moe.generation.contracts._layerwise_decodable import ExitingDecodable
from keras_moe.ops._confidence import entropy_confidence
from keras_moe.ops._confidence import softmax_margin
from keras_moe.ops._confidence import state_saturation
from keras_moe.types import Tensor
from keras_moe.validation import check_contract


class ExitConfidence:
    """Measures how sure a model is after a layer.

    Args:
        model: a `keras_moe.generation.ExitingDecodable`.
        policy: says which confidence.

    Raises:
        ValueError: if the model lacks a method or has no such confidence, or a
            vocabulary smaller than the policy's shortlist.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> policy = keras_moe.generation.EarlyExitPolicy("state")
    >>> measure = keras_moe.generation.ExitConfidence(model, policy)
    >>> before = np.ones((2, 1, model.config.model_dim), "float32")
    >>> sure, _ = measure(before, 3 * before)  # a cosine
    >>> sure.numpy().round(3)
    array([1., 1.], dtype=float32)
    """

    def __init__(self, model: ExitingDecodable, policy: EarlyExitPolicy):
        check_contract(ExitingDecodable, model=model)
        self.model = model
        self.policy = policy
        size = policy.shortlist_size
        if policy.confidence == "classifier" and not (
            model.config.exit_classifier
        ):
            raise ValueError(
                "The confidence 'classifier' needs a model with "
                "`exit_classifier=True`, trained by "
                "`keras_moe.training.ExitClassifierTrainer`. Received: "
                "exit_classifier=False."
            )
        if size is not None and size > model.config.output_size:
            raise ValueError(
                "`shortlist_size` must be at most the vocabulary, "
                f"{model.config.output_size}. Received: "
                f"shortlist_size={size}."
            )
        # The kernel is read once, not at each step: reading may dequantise it.
        self._shortlist = None if size is None else model.head_kernel(size)
        self._measure = (
            entropy_confidence
            if policy.confidence == "entropy"
            else softmax_margin
        )

    @property
    def keeps_logits(self) -> bool:
        """Whether the confidence is one of all logits, which an exit uses."""
        return self.policy.needs_logits and self._shortlist is None

    def __call__(self, before: Tensor, after: Tensor) -> tuple[Tensor, Any]:
        """Measures each row.

        Args:
            before: a layer's input, `(batch, 1, model_dim)`.
            after: its output.

        Returns:
            float32 `(batch,)`, and the exit's logits `(batch, vocabulary)`
            where they are kept, else `()`.
        """
        if self.policy.confidence == "state":
            return state_saturation(before, after)[:, 0], ()
        if self.policy.confidence == "classifier":
            return self.model.exit_confidence(self._finish(after))[:, 0], ()
        if self._shortlist is None:
            logits = self.head(after)
            return self._measure(logits), logits
        hidden = ops.cast(self._finish(after)[:, 0], self._shortlist.dtype)
        return self._measure(ops.matmul(hidden, self._shortlist)), ()

    def head(self, state: Tensor) -> Tensor:
        """Returns the logits `(batch, vocabulary)` of a layer's output."""
        return self.model.logits(self._finish(state))[:, 0]

    def _finish(self, state: Tensor) -> Tensor:
        return self.model.decoder.finish(state, training=False)
