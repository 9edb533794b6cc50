"""A diagnosis: where the first number that is not finite came from."""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_moe.keras_internals import compile_loss
from keras_moe.keras_internals import compute_loss
from keras_moe.keras_internals import own_losses
from keras_moe.ops._token_ids import OutsideVocabularyError
from keras_moe.training.nonfinite._call_recorder import CallRecorder
from keras_moe.training.nonfinite._call_recorder import NonfiniteCall
from keras_moe.training.nonfinite._nonfinite_count import NonfiniteCount
from keras_moe.training.nonfinite._nonfinite_count import count_nonfinite
from keras_moe.types import Tensor
from keras_moe.weights._layer_names import named_layers
from keras_moe.weights._named_state import METRICS
from keras_moe.weights._named_state import MODEL
from keras_moe.weights._named_state import named_state
from keras_moe.weights._named_state import optimizer_of


def name_nonfinite(
    model: keras.Model, batch: Any, training: bool = True
) -> str:
    """Says what first gives NaN or infinity when a model trains on a batch.

    The step is carried out eagerly, without compilation, on copies: values of
    weights, seeds, metrics and the optimizer stay as they are, and so do the
    random numbers that the next step will draw. A distributed model runs in
    one piece on one device. The search looks, in this order, at the batch,
    the weights and the optimizer, layers as they run, losses, gradients, and
    the optimizer's update.

    A layer is named if its inputs are finite and its outputs are not; of
    nested layers the innermost. A mask, which gives minus infinity on purpose,
    is not named if all that follows it is finite.

    Args:
        model: built; compiled, to look beyond its outputs.
        batch: inputs, labels and weights, as for `model.fit`.
        training: whether layers run as in training.

    Returns:
        A sentence.

    Raises:
        ValueError: if the model is not built.

    Example:

    >>> from keras_moe.training import name_nonfinite
    >>> layers = [keras.layers.Activation("exponential", name="exp")]
    >>> model = keras.Sequential([keras.Input([1]), *layers], name="model")
    >>> name_nonfinite(model, np.array([[1.0], [1000.0]]))
    "layer 'model/exp' (Activation): its inputs are finite, its outputs are not
    (1 of 2 values: 1 inf)."
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    return next(_findings(model, x, y, weight, training))


def _findings(
    model: keras.Model, x: Any, y: Any, weight: Any, training: bool
) -> Iterator[str]:
    """Yields a sentence a cause, the first cause first; the last says none."""
    yield from _in_data(x, "input")
    yield from _in_data(y, "label")
    yield from _in_data(weight, "sample weight")
    variables = named_state(model)
    for name, variable in variables.items():
        found = count_nonfinite(np.asarray(variable))
        # Metrics may be infinite: the maximum of no values is minus infinity.
        if found.total and not name.startswith(METRICS):
            yield _about_variable(name, found)
    state = [(v, np.asarray(v)) for v in variables.values()]

    def run(trainable: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        own = zip(model.trainable_variables, trainable, strict=True)
        # Whatever layers assign is dropped with the scope: values stay.
        with keras.StatelessScope([*state, *own], collect_losses=True):
            outputs = model(x, training=training)
            if not has_loss:
                return outputs, None
            losses.extend(_added_losses(model))
            return outputs, compute_loss(
                model, x, y, outputs, weight, training=training
            )

    # The loss of `compile` cannot be computed without labels.
    has_loss = optimizer_of(model) is not None and not (
        y is None and compile_loss(model) is not None
    )
    losses: list[tuple[str, NonfiniteCount]] = []
    values = [
        keras.ops.convert_to_tensor(np.asarray(v), dtype=v.dtype)
        for v in model.trainable_variables
    ]
    recorder = CallRecorder()
    with recorder.watch(model):
        try:
            outputs, loss = run(values)
        except OutsideVocabularyError as error:
            # In a graph such an id makes NaN; here, run eagerly, it raises.
            yield f"the batch: {_innermost(error)}"
            return
    bad_loss = loss is not None and count_nonfinite(loss).total
    if recorder.calls and (count_nonfinite(outputs).total or bad_loss):
        yield _about_layer(recorder.calls)
    for path, found in losses:
        if found.total:
            yield (
                f"the loss that layer '{path}' adds: its outputs are finite, "
                f"the loss is not ({found})."
            )
    if bad_loss:
        yield (
            "the loss: the outputs are finite, the loss is not "
            f"({count_nonfinite(loss)})."
        )
    # A layer that looked like a mask may have spoilt the gradient.
    on_the_way = ""
    if recorder.calls:
        on_the_way = f" On the way, {_about_layer(recorder.calls)}"
    if loss is not None:
        for text in _in_update(model, variables, values, lambda v: run(v)[1]):
            yield text + on_the_way
    yield "all is finite: the batch, weights, layers and losses."


def _innermost(error: BaseException) -> BaseException:
    """Returns the error as it was before Keras wrapped it."""
    while isinstance(error.__context__, OutsideVocabularyError):
        error = error.__context__
    return error


def _in_data(values: Any, kind: str) -> Iterator[str]:
    for path, leaf in keras.tree.flatten_with_path(values):
        found = count_nonfinite(leaf)
        if found.total:
            name = "/".join(str(part) for part in path)
            what = f"{kind} '{name}'" if name else kind
            held = "NaN" if found.nan else "infinity"
            yield f"the {what} holds {held} ({found})."


def _in_update(
    model: keras.Model,
    variables: dict[str, keras.Variable],
    values: list[Tensor],
    loss_of: Callable[[list[Tensor]], Tensor],
) -> Iterator[str]:
    gradients = _gradients(loss_of, values)
    if gradients is None:
        return
    names = {id(variable): name for name, variable in variables.items()}
    trainable = model.trainable_variables
    # Backpropagation starts at the last layer: its gradient fails first.
    for variable, gradient in reversed(
        list(zip(trainable, gradients, strict=True))
    ):
        found = count_nonfinite(gradient)
        if found.total:
            name = names[id(variable)].removeprefix(MODEL)
            yield (
                f"the gradient of '{name}': the loss is finite, the gradient "
                f"is not ({found})."
            )
    optimizer = model.optimizer
    if not optimizer.built or _is_distributed(model):
        return
    changed = [*optimizer.variables, *trainable]
    before = [np.array(np.asarray(variable)) for variable in changed]
    try:
        # Keras's TensorFlow optimizers can only assign: the update is made for
        # real, and taken back below.
        optimizer.apply(gradients, trainable)
        after = [count_nonfinite(np.asarray(v)) for v in changed]
    finally:
        for variable, value in zip(changed, before, strict=True):
            variable.assign(value)
    for variable, found in zip(changed, after, strict=True):
        if found.total:
            yield (
                f"the update of '{names[id(variable)]}': the gradients are "
                f"finite, its value is not any more ({found})."
            )


def _gradients(
    loss_of: Callable[[list[Tensor]], Tensor], values: list[Tensor]
) -> list[Tensor] | None:
    """Returns the gradients; `None` on a backend without a way to them."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = loss_of(values)
        gradients = tape.gradient(loss, values)
        return [
            tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, values, strict=True)
        ]
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(loss_of)(values)
    return None


def _is_distributed(model: keras.Model) -> bool:
    strategy = getattr(model, "distribute_strategy", None)
    return strategy is not None and strategy.num_replicas_in_sync > 1


def _added_losses(model: keras.Model) -> Iterator[tuple[str, NonfiniteCount]]:
    for layer, _, path in named_layers(model):
        for loss in own_losses(layer):
            yield path, count_nonfinite(loss)


def _about_layer(calls: list[NonfiniteCall]) -> str:
    path, layer, outputs = calls[0]
    text = (
        f"layer '{path}' ({type(layer).__name__}): its inputs are finite, its "
        f"outputs are not ({outputs})."
    )
    # Layers that contain the first one repeat its numbers.
    later = [
        call
        for call in calls
        if call.outputs.total > call.outputs.negative
        and not path.startswith(f"{call.path}/")
    ]
    if outputs.total == outputs.negative and later:
        text += (
            " If it is a mask and meant so, the first after it is layer "
            f"'{later[0].path}' ({later[0].outputs})."
        )
    return text


def _about_variable(name: str, found: NonfiniteCount) -> str:
    what = f"'{name.removeprefix(MODEL)}'"
    kind = "the weight" if name.startswith(MODEL) else "the value"
    return f"{kind} {what} is not finite before the step ({found})."
