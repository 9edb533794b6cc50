"""Training of a model whose outputs tell its features."""

from typing import Any

import keras
from keras import ops

from keras_moe.keras_internals import get_mask
from keras_moe.losses import weighted_mean
from keras_moe.losses._replica_share import replica_share
from keras_moe.training.exits._wrapping_model import WrappingModel
from keras_moe.types import Tensor
from keras_moe.validation import check_not_negative


class FeatureReconstruction(WrappingModel):
    """Trains a model so that its features can be read off its outputs.

    To the loss that `compile` was given comes `alpha` times the mean squared
    distance between the features that the last layers read, and what a small
    decoder makes of the outputs. A model that answers by one simple feature
    alone could not be decoded.

    When, and when not: where training and test differ in a simple feature, and
    there are many classes or outputs: two logits cannot hold many features. On
    digits beside a simple cue it changed nothing in our trials
    (`python -m benchmarks.article`). Experimental.

    Source: FRR, [Addepalli et al., 2022](https://arxiv.org/abs/2210.01360).
    Its stages are settings of `trainable`: first of the head alone, with the
    layers below frozen (FRR-L), then of the layers below, with the head frozen
    (FLFT).

    Args:
        model: a Functional or Sequential model of one output `(batch, ...)`.
        layer: name of the layer whose output is the features.
        alpha: weight of the distance; 0 is plain training.
        decoder: a layer from outputs to features, both flattened to `(batch,
            size)`; by default a `keras.layers.Dense`.

    Call arguments:
        inputs: inputs of `model`.
        training: whether to train.

    Output:
        `{"outputs": ..., "features": ...}`; `predict` gives the outputs alone.
        The metric `reconstruction_loss` is the distance before its weight.
        Where features have a mask, padding is in neither; where outputs have
        one, the decoder reads zeros.
        `save` and `export` are those of the model, without the decoder.

    Raises:
        ValueError: if `alpha` is negative, `model` is of another kind, or has
            no such layer, no trainable weights or features of unknown size.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(8, activation="relu", name="features"),
    ...         keras.layers.Dense(3),
    ...     ]
    ... )
    >>> trainer = keras_moe.training.FeatureReconstruction(model, "features")
    >>> trainer.compile("adam", "mse")
    >>> history = trainer.fit(np.eye(4), np.ones((4, 3)), verbose=0)
    >>> sorted(history.history)
    ['loss', 'reconstruction_loss']
    """

    def __init__(
        self,
        model: keras.Model,
        layer: str,
        alpha: float = 1.0,
        decoder: keras.layers.Layer | None = None,
        name: str = "feature_reconstruction",
    ):
        # `compile` scales losses by this policy: it is the model's.
        super().__init__(name=name, dtype=model.dtype_policy, autocast=False)
        check_not_negative(alpha=alpha)
        names = [each.name for each in getattr(model, "layers", [])]
        if not getattr(model, "inputs", None) or len(model.outputs) != 1:
            raise ValueError(
                "`model` must be a Functional or Sequential model, built, of "
                f"one output. Received: model={model!r}."
            )
        if layer not in names:
            raise ValueError(
                f"`layer` must be one of the model's layers, {names}. Received:"
                f" layer={layer!r}."
            )
        if not model.trainable_weights:
            raise ValueError(
                "`model` must have trainable weights. Received a model without "
                "any."
            )
        features = model.get_layer(layer).output
        size = _size(features, layer)
        self.model = model
        self.alpha = alpha
        self.forward = keras.Model(model.inputs, [model.outputs[0], features])
        self.decoder = decoder or keras.layers.Dense(size, name="decoder")
        if not self.decoder.built:
            self.decoder.build((None, _size(model.outputs[0], "outputs")))
        # With a weight of 0 the decoder would get no gradient.
        self.decoder.trainable = self.decoder.trainable and alpha > 0
        self.reconstruction_loss = keras.metrics.Mean("reconstruction_loss")
        self.built = True

    def call(
        self, inputs: Any, training: bool | None = None
    ) -> dict[str, Tensor]:
        outputs, features = self.forward(inputs, training=training)
        return {"outputs": outputs, "features": features}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the loss, plus the weighted distance of the features."""
        loss = super().compute_loss(
            x, y, y_pred["outputs"], sample_weight, training
        )
        outputs, _ = _flat(y_pred["outputs"])
        features, real = _flat(y_pred["features"])
        difference = features - ops.cast(self.decoder(outputs), "float32")
        squares = ops.square(ops.where(real, difference, 0.0))
        number = ops.sum(ops.cast(real, "float32"), axis=-1)
        values = ops.sum(squares, axis=-1) / ops.maximum(number, 1.0)
        # An example that is all padding has no distance.
        distance = weighted_mean(values, number > 0, sample_weight)
        self.reconstruction_loss.update_state(
            ops.stop_gradient(distance), sample_weight=ops.sum(number > 0)
        )
        if not self.alpha:
            return loss
        return loss + ops.cast(
            self.alpha * distance * replica_share(), loss.dtype
        )

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Tensor]:
        """Updates the metrics of `compile` with the outputs."""
        return super().compute_metrics(x, y, y_pred["outputs"], sample_weight)

    def predict_step(self, data: Any) -> Tensor:
        """Returns the outputs of one batch."""
        return super().predict_step(data)["outputs"]


def _size(x: Tensor, name: str) -> int:
    """Returns how many numbers an example has."""
    if None in x.shape[1:]:
        raise ValueError(
            "Features and outputs must be of known size. Received: "
            f"{name!r} with shape={tuple(x.shape)}."
        )
    size = 1
    for each in x.shape[1:]:
        size *= each
    return size


def _flat(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns float32 `(batch, size)` with zeros for padding, and what is none.

    Args:
        x: `(batch, ...)`, maybe with a mask of its first axes.
    """
    mask = get_mask(x)
    real = ops.ones_like(x, dtype="bool")
    if mask is not None:
        mask = ops.cast(mask, "bool")
        for _ in range(len(x.shape) - len(mask.shape)):
            mask = ops.expand_dims(mask, -1)
        real = real & mask
    values = ops.where(real, ops.cast(x, "float32"), 0.0)
    shape = (-1, _size(x, "features"))
    return ops.reshape(values, shape), ops.reshape(real, shape)
