"""Several training or test steps as one call into TensorFlow."""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import keras
import tensorflow as tf

from keras_moe.training._gradient_accumulator import GradientAccumulator
from keras_moe.training._state_accumulators import StateAccumulators

# A function of an iterator over batches and of how many to take, which returns
# the logs after each batch.
Steps: TypeAlias = Callable[[Any, int], list[dict[str, float]]]


def make_train_steps(
    model: keras.Model,
    steps_per_execution: int = 1,
    gradient_accumulation_steps: int = 1,
) -> Steps:
    """Returns a function that trains on the next batches of an iterator.

    The function calls the model's own `train_step` in each replica, and
    returns the running metrics, averaged over replicas.

    Args:
        model: compiled and built.
        steps_per_execution: the most updates that one call will make.
        gradient_accumulation_steps: how many batches an update takes; the last
            update of a call takes as many as are left.

    Returns:
        A function of a (distributed) iterator and a number of batches.

    Example:

    >>> from keras_moe.training._compiled_steps import make_train_steps
    >>> model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> x = tf.ones([6, 1])
    >>> data = tf.data.Dataset.from_tensor_slices((x, x)).batch(2)
    >>> steps = make_train_steps(model, steps_per_execution=3)
    >>> [sorted(logs) for logs in steps(iter(data), 2)]
    [['loss'], ['loss']]
    """
    step = _compiled(model, model.train_step)
    if gradient_accumulation_steps == 1:
        return _steps(model, step, looping=steps_per_execution > 1)
    return _accumulating_steps(model, gradient_accumulation_steps)


def make_test_steps(model: keras.Model) -> Steps:
    """Returns a function that evaluates the next batch of an iterator.

    Args:
        model: compiled and built.

    Returns:
        A function of a (distributed) iterator and the number 1.
    """
    return _steps(model, _compiled(model, model.test_step), looping=False)


def _compiled(model: keras.Model, step: Callable) -> Callable:
    if not model.jit_compile:
        return step
    return tf.function(step, jit_compile=True)


def _steps(model: keras.Model, step: Callable, looping: bool) -> Steps:
    step_on = _ReplicaStep(model.distribute_strategy, step)

    def steps(iterator: Any, num_batches: tf.Tensor) -> tf.Tensor:
        if not looping:
            return step_on(iterator)[tf.newaxis, :]

        def body(index: tf.Tensor, logs: tf.TensorArray) -> tuple:
            return index + 1, logs.write(index, step_on(iterator))

        _, logs = tf.while_loop(
            lambda index, _: index < num_batches,
            body,
            [0, _empty_logs(num_batches)],
            parallel_iterations=1,
        )
        return logs.stack()

    return _with_names(steps, step_on)


def _accumulating_steps(model: keras.Model, accumulation: int) -> Steps:
    strategy = model.distribute_strategy
    optimizer = model.optimizer
    accumulator = GradientAccumulator(
        strategy, optimizer, model.trainable_variables
    )
    state = StateAccumulators(strategy, model)
    step_on = _ReplicaStep(strategy, _compiled(model, model.train_step))

    def reset() -> None:
        accumulator.reset()
        state.reset()

    def update(num_batches: tf.Tensor) -> None:
        accumulator.apply_mean(num_batches)
        state.apply()

    def steps(iterator: Any, num_batches: tf.Tensor) -> tf.Tensor:
        def add(index: tf.Tensor, logs: tf.TensorArray) -> tuple:
            return index + 1, logs.write(index, step_on(iterator))

        def body(index: tf.Tensor, logs: tf.TensorArray) -> tuple:
            end = tf.minimum(index + accumulation, num_batches)
            strategy.run(reset)
            with state.in_place():
                _, logs = tf.while_loop(
                    lambda batch, _: batch < end,
                    add,
                    [index, logs],
                    parallel_iterations=1,
                )
            strategy.run(update, args=(end - index,))
            return end, logs

        model.optimizer = accumulator
        try:
            _, logs = tf.while_loop(
                lambda index, _: index < num_batches,
                body,
                [0, _empty_logs(num_batches)],
                parallel_iterations=1,
            )
        finally:
            model.optimizer = optimizer
        return logs.stack()

    return _with_names(steps, step_on)


def _empty_logs(size: tf.Tensor) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, size=size, element_shape=[None])


def _with_names(steps: Callable, step_on: "_ReplicaStep") -> Steps:
    """Compiles steps; gives names to the numbers in their rows of logs."""
    graph = tf.function(
        tf.autograph.experimental.do_not_convert(steps), reduce_retracing=True
    )

    def run(iterator: Any, num_batches: int) -> list[dict[str, float]]:
        rows = graph(iterator, tf.constant(num_batches)).numpy()
        return [
            dict(zip(step_on.names, map(float, row), strict=True))
            for row in rows
        ]

    return run


class _ReplicaStep:
    """A step of all replicas on the next batch of an iterator.

    Attributes:
        names: names of the numbers that the step logs, once it was traced.
    """

    def __init__(self, strategy: tf.distribute.Strategy, step: Callable):
        self.strategy = strategy
        self.step = step
        self.names: list[str] = []

    def __call__(self, iterator: Any) -> tf.Tensor:
        batch = iterator.get_next()
        # If the iterator has ended, no op of the step may run: random ops are
        # stateful, and one draw too many would shift all later ones.
        with tf.control_dependencies(tf.nest.flatten(batch, True)):
            logs = self.strategy.run(self._vector, args=(batch,))
            return self.strategy.reduce("MEAN", logs, axis=None)

    def _vector(self, data: Any) -> tf.Tensor:
        """Returns the scalars that a step logs in one vector.

        One reduction over replicas then does for all of them.
        """
        logs = {
            name: tf.cast(value, tf.float32)
            for name, value in self.step(data).items()
            if not isinstance(value, dict) and value.shape.rank == 0
        }
        self.names = list(logs)
        return tf.stack(list(logs.values())) if logs else tf.zeros((0,))
