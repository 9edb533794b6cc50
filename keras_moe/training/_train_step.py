"""A number of training steps as one call into TensorFlow."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

# From an iterator over batches and how many of them to take, to what is logged
# after each.
Steps = Callable[[Any, int], list[dict[str, float]]]


def make_train_steps(
    model: keras.Model,
    steps_per_execution: int = 1,
    gradient_accumulation_steps: int = 1,
) -> Steps:
    """Returns a function that trains on the next batches of an iterator.

    It calls the model's own `train_step` in each replica. What it returns are
    the running metrics, those of the replicas averaged.

    Args:
        model: a compiled and built model.
        steps_per_execution: the most updates that one call will make.
        gradient_accumulation_steps: how many batches an update takes; where
            fewer are left, as many as there are.

    Returns:
        A function of a (distributed) iterator and a number of batches.
    """
    step = _compiled(model, model.train_step)
    if gradient_accumulation_steps == 1:
        return _steps(model, step, looping=steps_per_execution > 1)
    return _accumulating_steps(model, gradient_accumulation_steps)


def make_test_steps(model: keras.Model) -> Steps:
    """Returns a function that evaluates the next batches of an iterator."""
    return _steps(model, _compiled(model, model.test_step), looping=False)


def _compiled(model: keras.Model, step: Callable) -> Callable:
    if not model.jit_compile:
        return step
    return tf.function(step, jit_compile=True)


def _steps(model: keras.Model, step: Callable, looping: bool) -> Steps:
    on_batch = _OnBatch(model.distribute_strategy, step)

    def steps(iterator: Any, num_batches: tf.Tensor) -> tf.Tensor:
        if not looping:
            return on_batch(iterator)[tf.newaxis, :]

        def body(index: tf.Tensor, logs: tf.TensorArray) -> tuple:
            return index + 1, logs.write(index, on_batch(iterator))

        _, logs = tf.while_loop(
            lambda index, _: index < num_batches,
            body,
            [0, _logs(num_batches)],
            parallel_iterations=1,
        )
        return logs.stack()

    return _named(steps, on_batch)


def _accumulating_steps(model: keras.Model, accumulation: int) -> Steps:
    strategy = model.distribute_strategy
    optimizer = model.optimizer
    sums = _GradientSums(strategy, optimizer, model.trainable_variables)
    on_batch = _OnBatch(strategy, _compiled(model, model.train_step))

    def update(num_batches: tf.Tensor) -> None:
        sums.apply_mean(num_batches)

    def steps(iterator: Any, num_batches: tf.Tensor) -> tf.Tensor:
        def add(index: tf.Tensor, logs: tf.TensorArray) -> tuple:
            return index + 1, logs.write(index, on_batch(iterator))

        def body(index: tf.Tensor, logs: tf.TensorArray) -> tuple:
            end = tf.minimum(index + accumulation, num_batches)
            strategy.run(sums.reset)
            _, logs = tf.while_loop(
                lambda batch, _: batch < end,
                add,
                [index, logs],
                parallel_iterations=1,
            )
            strategy.run(update, args=(end - index,))
            return end, logs

        model.optimizer = sums
        try:
            _, logs = tf.while_loop(
                lambda index, _: index < num_batches,
                body,
                [0, _logs(num_batches)],
                parallel_iterations=1,
            )
        finally:
            model.optimizer = optimizer
        return logs.stack()

    return _named(steps, on_batch)


def _logs(size: tf.Tensor) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, size=size, element_shape=[None])


def _named(steps: Callable, on_batch: "_OnBatch") -> Steps:
    """Returns `steps` as one graph, whose rows have got names."""
    graph = tf.function(
        tf.autograph.experimental.do_not_convert(steps), reduce_retracing=True
    )

    def run(iterator: Any, num_batches: int) -> list[dict[str, float]]:
        rows = graph(iterator, tf.constant(num_batches)).numpy()
        return [
            dict(zip(on_batch.names, map(float, row), strict=True))
            for row in rows
        ]

    return run


class _OnBatch:
    """A step of all replicas on the next batch, and what they log."""

    def __init__(self, strategy: tf.distribute.Strategy, step: Callable):
        self.strategy = strategy
        self.step = step
        self.names: list[str] = []

    def __call__(self, iterator: Any) -> tf.Tensor:
        batch = iterator.get_next()
        # Where there is no batch, nothing must happen: TensorFlow would draw
        # random numbers before it knows, and later ones were others.
        with tf.control_dependencies(tf.nest.flatten(batch, True)):
            logs = self.strategy.run(self._vector, args=(batch,))
            return self.strategy.reduce("MEAN", logs, axis=None)

    def _vector(self, data: Any) -> tf.Tensor:
        """Returns the scalars that a step logs as one: one to reduce."""
        logs = {
            name: tf.cast(value, tf.float32)
            for name, value in self.step(data).items()
            if not isinstance(value, dict) and value.shape.rank == 0
        }
        self.names = list(logs)
        return tf.stack(list(logs.values())) if logs else tf.zeros((0,))


class _GradientSums:
    """Stands for a model's optimizer, and keeps what it is to be given.

    All else that a training step may ask of an optimizer, such as the number
    of updates, the real one answers.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        optimizer: keras.optimizers.Optimizer,
        variables: list[keras.Variable],
    ):
        self.optimizer = optimizer
        self.variables_of_model = variables
        self.has_gradient = [True] * len(variables)
        with strategy.scope():
            # Each replica its own: they are summed once an update.
            self.sums = [
                tf.Variable(
                    tf.zeros(variable.shape, variable.dtype),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for variable in variables
            ]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def apply_gradients(self, grads_and_vars: Iterable) -> None:
        gradients, variables = zip(*grads_and_vars, strict=True)
        self.apply(gradients, variables)

    def apply(self, grads: Iterable, trainable_variables: Any = None) -> None:
        grads = list(grads)
        given = list(trainable_variables or self.variables_of_model)
        if [id(v) for v in given] != [id(v) for v in self.variables_of_model]:
            raise ValueError(
                "`train_step` must apply gradients to "
                "`model.trainable_variables` where "
                "`gradient_accumulation_steps` is more than 1. Received: "
                f"{[v.path for v in given]}."
            )
        self.has_gradient = [gradient is not None for gradient in grads]
        for total, gradient in zip(self.sums, grads, strict=True):
            if gradient is not None:
                # Of an embedding, rows alone are given.
                total.assign_add(tf.convert_to_tensor(gradient))

    def reset(self) -> None:
        for total in self.sums:
            total.assign(tf.zeros_like(total))

    def apply_mean(self, num_batches: tf.Tensor) -> None:
        means = [
            total.read_value() / tf.cast(num_batches, total.dtype)
            if exists
            else None
            for total, exists in zip(self.sums, self.has_gradient, strict=True)
        ]
        self.optimizer.apply(means, self.variables_of_model)
