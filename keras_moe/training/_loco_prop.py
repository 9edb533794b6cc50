"""Training of each layer towards a target of its own."""

from typing import Any

import keras
from keras import ops

from keras_moe.keras_internals import symbolic_call
from keras_moe.losses._replica_share import replica_share
from keras_moe.training.exits._wrapping_model import WrappingModel
from keras_moe.types import Tensor
from keras_moe.validation import check_choice
from keras_moe.validation import check_not_negative
from keras_moe.validation import check_size

# Of these, each is the gradient of a convex function: the matching loss.
_MATCHING = {
    *("linear", "relu", "leaky_relu", "elu", "softplus"),
    *("sigmoid", "softmax", "tanh"),
}
_MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
_LEAST_RATE = 0.25


class LocoProp(WrappingModel):
    """Trains a stack of `Dense` layers by a small problem for each layer.

    One backward pass gives each layer a target: what it put out, moved against
    the gradient by `activation_learning_rate`. Then every layer by itself takes
    `num_local_steps` towards its target, on inputs that stay, by the optimizer
    that `compile` was given. The first local step is that of backpropagation;
    with one step, `activation_learning_rate=1` and `variant="s"` the whole is
    plain training.

    When, and when not: for deep stacks of `Dense` that first-order optimizers
    train slowly, and where batches are dear. A batch costs several times what
    it does otherwise: here the loss was lower at equal steps and not at equal
    time (`python -m benchmarks.article`). Experimental.

    Source: [LocoProp, Amid et al., 2021](https://arxiv.org/abs/2106.06199).
    Targets are moved by the gradient of an example's loss, so that nothing
    depends on the size of the batch.

    Args:
        model: a Sequential or Functional stack of `keras.layers.Dense`, built.
        variant: `"m"` for targets behind the activation and its matching loss,
            `"s"` for targets before it and squares.
        num_local_steps: updates of each layer on a batch, T.
        activation_learning_rate: how far targets are moved.

    Local step s has `max(1 - s / T, 1/4)` of the optimizer's step. `save` and
    `export` are those of the model. Frozen layers stay.

    Raises:
        ValueError: if an argument is out of its range, or the model is not such
            a stack (a class of one's own that derives from `Dense` is none);
            also for layers with float16, LoRA, int8, regularisers or an
            activation without a matching loss (`variant="m"`).
        RuntimeError: on another backend than TensorFlow.

    Example:

    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((4,)),
    ...         keras.layers.Dense(8, activation="tanh"),
    ...         keras.layers.Dense(1),
    ...     ]
    ... )
    >>> trainer = keras_moe.training.LocoProp(model, num_local_steps=5)
    >>> trainer.compile(keras.optimizers.RMSprop(1e-3), "mse")
    >>> history = trainer.fit(np.eye(4), np.ones((4, 1)), verbose=0)
    >>> int(trainer.optimizer.iterations)  # local steps
    5
    """

    def __init__(
        self,
        model: keras.Model,
        variant: str = "m",
        num_local_steps: int = 10,
        activation_learning_rate: float = 1.0,
        name: str = "loco_prop",
    ):
        # By its policy `compile` would scale losses, which gradients of layers
        # are not made of.
        super().__init__(name=name, dtype="float32")
        if keras.backend.backend() != "tensorflow":
            raise RuntimeError(
                "`LocoProp` trains on the TensorFlow backend alone. Received: "
                f"{keras.backend.backend()!r}."
            )
        check_choice(("m", "s"), variant=variant)
        check_size(num_local_steps=num_local_steps)
        check_not_negative(activation_learning_rate=activation_learning_rate)
        self.model = model
        self.stack = _stack_of(model, variant)
        self.variant = variant
        self.num_local_steps = num_local_steps
        self.activation_learning_rate = activation_learning_rate
        self.built = True

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args, **kwargs
    ) -> None:
        """Sets the optimizer of local steps, the loss and metrics.

        Args:
            optimizer: for all layers; its slots are those of plain training.
            loss: a mean over the batch, as losses of Keras are by default.
            *args: see `keras.Model.compile`.
            **kwargs: likewise.

        Raises:
            ValueError: for an optimizer that scales losses or accumulates
                gradients, or a loss that is no mean over the batch.
        """
        optimizer = keras.optimizers.get(optimizer)
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                "`optimizer` must not scale losses: local steps have none. "
                "Received: a LossScaleOptimizer."
            )
        _refuse_accumulation(optimizer)
        _check_means(loss)
        super().compile(optimizer, loss, *args, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.model(inputs, training=training)

    def train_step(self, data: Any) -> dict[str, Tensor]:
        """Makes one backward pass, and the local steps."""
        import tensorflow as tf

        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            inputs, sums, outputs = self._forward(x, tape)
            loss = self.compute_loss(x, y, outputs[-1], sample_weight)
        # Of an example's loss, not of the mean's.
        size = ops.cast(ops.shape(outputs[-1])[0], loss.dtype)
        factor = self.activation_learning_rate * size / replica_share()
        start = sums if self.variant == "s" else outputs
        gradients = tape.gradient(loss, sums)
        targets = [
            _moved(value, gradient, factor)
            for value, gradient in zip(start, gradients, strict=True)
        ]
        for step in range(self.num_local_steps):
            self._local_step(inputs, targets, size, step)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss / replica_share(), sample_weight=size)
        return self.compute_metrics(x, y, outputs[-1], sample_weight)

    def _forward(self, x: Tensor, tape: Any) -> tuple[list, list, list]:
        """Returns each layer's inputs, sums and outputs."""
        inputs, sums, outputs = [], [], []
        for layer in self.stack:
            x = ops.cast(x, layer.compute_dtype)
            inputs.append(_at_least_float32(x))
            z = ops.matmul(x, ops.cast(layer.kernel, x.dtype))
            if layer.bias is not None:
                z = z + ops.cast(layer.bias, x.dtype)
            tape.watch(z)
            x = layer.activation(z)
            sums.append(z)
            outputs.append(x)
        return inputs, sums, outputs

    def _local_step(
        self, inputs: list, targets: list, size: Tensor, step: int
    ) -> None:
        gradients, weights = [], []
        for layer, x, target in zip(self.stack, inputs, targets, strict=True):
            if not layer.trainable:
                continue
            z = ops.matmul(x, ops.cast(layer.kernel, x.dtype))
            if layer.bias is not None:
                z = z + ops.cast(layer.bias, x.dtype)
            found = layer.activation(z) if self.variant == "m" else z
            share = ops.cast(replica_share() / size, x.dtype)
            error = (found - target) * share
            gradients.append(ops.matmul(ops.transpose(x), error))
            weights.append(layer.kernel)
            if layer.bias is not None:
                gradients.append(ops.sum(error, axis=0))
                weights.append(layer.bias)
        before = [ops.convert_to_tensor(weight) + 0 for weight in weights]
        self.optimizer.apply(gradients, weights)
        share = max(1 - step / self.num_local_steps, _LEAST_RATE)
        if share < 1:  # whatever the optimizer makes of its rate
            for weight, old in zip(weights, before, strict=True):
                moved = old + share * (weight - old)
                # A shorter step may end outside of what the constraint allows.
                limit = weight.constraint
                weight.assign(moved if limit is None else limit(moved))


def _at_least_float32(x: Tensor) -> Tensor:
    """Returns `x` in the precision of local steps."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def _moved(value: Tensor, gradient: Tensor, factor: Tensor) -> Tensor:
    """Returns a value against its gradient."""
    value = _at_least_float32(value)
    return value - ops.cast(factor, value.dtype) * ops.cast(
        gradient, value.dtype
    )


def _refuse_accumulation(optimizer: keras.optimizers.Optimizer) -> None:
    """Raises `ValueError` if gradients of local steps would be added up."""
    # `MultiOptimizer` has a list of them.
    for each in (optimizer, *getattr(optimizer, "optimizers", ())):
        steps = getattr(each, "gradient_accumulation_steps", None)
        if steps and steps > 1:
            raise ValueError(
                "`optimizer` must not accumulate gradients: of local steps "
                "each begins where the one before ended. Received: "
                f"gradient_accumulation_steps={steps}."
            )


def _check_means(loss: Any) -> None:
    """Raises `ValueError` unless the loss is a mean over the batch."""
    for each in keras.tree.flatten(loss):
        if getattr(each, "reduction", _MEANS[0]) not in _MEANS:
            raise ValueError(
                "`loss` must be a mean over the batch: how far targets are "
                "moved follows from it. Received: "
                f"{type(each).__name__} with reduction={each.reduction!r}."
            )


def _stack_of(model: keras.Model, variant: str) -> list[keras.layers.Dense]:
    """Returns the layers of a model that is a stack of Dense."""
    layers = _chain(model)
    if not layers:
        kinds = [type(layer).__name__ for layer in getattr(model, "layers", [])]
        raise ValueError(
            "`model` must be a stack of `keras.layers.Dense`, built, each used "
            "once, of inputs (batch, size). Received: a "
            f"{type(model).__name__} of {kinds}."
        )
    if not any(layer.trainable_weights for layer in layers):
        raise ValueError(
            "`model` must have trainable weights. Received a model without any."
        )
    for layer in layers:
        activation = getattr(layer.activation, "__name__", layer.activation)
        refused = {
            "dtype": layer.compute_dtype == "float16" and layer.compute_dtype,
            "quantization_mode": layer.quantization_mode,
            "lora_rank": layer.lora_rank,
            "kernel_regularizer": layer.kernel_regularizer,
            "bias_regularizer": layer.bias_regularizer,
            "activity_regularizer": layer.activity_regularizer,
            "activation": variant == "m"
            and activation not in _MATCHING
            and activation,
        }
        for name, value in refused.items():
            if value:
                raise ValueError(
                    f"`LocoProp` cannot train a layer with this `{name}`: its "
                    "small problem would be another one. Received: "
                    f"{layer.name!r} with {name}={value!r}, "
                    f"variant={variant!r}."
                )
    return layers


def _chain(model: keras.Model) -> list[keras.layers.Dense] | None:
    """Returns layers of which each reads the one before, and nothing else."""
    inputs = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 2:
        return None
    layers: list[keras.layers.Dense] = []
    x = outputs[0]
    while x is not inputs[0]:
        call = symbolic_call(x)
        # A class that derives from Dense may compute something else.
        if call is None or type(call[0]) is not keras.layers.Dense:
            return None
        if call[0] in layers:
            return None
        layers.append(call[0])
        x = call[1][0]
    return layers[::-1]
