"""Decoding by programs of a few shapes, each compiled by XLA."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import compile_decoder
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import Router

# The signature through which each shape is warmed up.
COMPILED_IDS = "compiled_ids"


class CompiledShapes:
    """Decodes sources of any shape by programs of a few, in a graph.

    Sources are padded to the next number of rows and the next length that there
    is a program for. More rows than the greatest number are cut into pieces;
    for sources that are longer than the greatest length the model is decoded
    without XLA.

    One function stands behind all programs: XLA compiles it when a shape
    comes along for the first time.

    Args:
        model: decodes.
        max_length: greatest number of tokens of an answer.
        batch_sizes: numbers of rows, increasing.
        lengths: numbers of positions, increasing.
        early_exit: when a token may leave the decoder early; `None` for never.

    Raises:
        ValueError: if there are no sizes, they are not positive or do not
            increase, or the model's answers depend on padding.
    """

    def __init__(
        self,
        model: keras.Model,
        max_length: int,
        batch_sizes: Sequence[int],
        lengths: Sequence[int],
        early_exit: EarlyExitPolicy | None = None,
    ):
        _check_sizes(batch_sizes=batch_sizes, lengths=lengths)
        _check_padding(model)
        self.batch_sizes = tuple(batch_sizes)
        self.lengths = tuple(lengths)
        self._model = model
        self._early_exit = early_exit
        self._plain = compile_decoder(model, max_length, None, early_exit)
        # A function of TensorFlow, which knows its outputs.
        self._program: Any = compile_decoder(
            model, max_length, None, early_exit, jit_compile=True
        )

    def sources(self) -> list[np.ndarray]:
        """Returns a source of each shape that there is a program for."""
        # Padding alone would be cut off.
        filler = self._model.config.end_id
        return [
            np.full((rows, length), filler, "int32")
            for rows in self.batch_sizes
            for length in self.lengths
        ]

    def decode(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decodes int32 `(batch, length)`, as `keras_moe.generation.decode`."""
        # Whoever tokenises may pad all sources to one length.
        used = tf.reduce_any(ids != self._model.config.pad_id, axis=0)
        place = tf.range(1, tf.shape(ids)[1] + 1)
        length = tf.maximum(tf.reduce_max(tf.where(used, place, 0)), 0)
        ids = ids[:, :length]
        return tf.cond(
            length <= self.lengths[-1],
            lambda: self._by_programs(ids, length),
            lambda: self._call(self._plain, ids),
        )

    def _by_programs(
        self, ids: tf.Tensor, length: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        more = _next(self.lengths, length) - length
        pad_id = self._model.config.pad_id
        ids = tf.pad(ids, ((0, 0), (0, more)), constant_values=pad_id)
        specs = self._program.get_concrete_function().structured_outputs
        first = {
            name: tf.zeros((0, *spec.shape[1:]), spec.dtype)
            for name, spec in specs.items()
        }
        rows, most = tf.shape(ids)[0], self.batch_sizes[-1]

        def piece(start: tf.Tensor, answers: dict) -> tuple[tf.Tensor, dict]:
            answer = self._run(ids[start : start + most])
            return start + most, {
                name: tf.concat([before, answer[name]], axis=0)
                for name, before in answers.items()
            }

        _, answers = tf.while_loop(
            lambda start, answers: start < rows,
            piece,
            (tf.zeros((), tf.int32), first),
            shape_invariants=(
                tf.TensorShape([]),
                {
                    name: tf.TensorShape([None, *spec.shape[1:]])
                    for name, spec in specs.items()
                },
            ),
            parallel_iterations=1,
        )
        return answers

    def _run(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        rows = tf.shape(ids)[0]
        more = _next(self.batch_sizes, rows) - rows
        pad_id = self._model.config.pad_id
        ids = tf.pad(ids, ((0, more), (0, 0)), constant_values=pad_id)
        answer = self._call(self._program, ids)
        return {name: value[:rows] for name, value in answer.items()}

    def _call(self, decoder: Any, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        if self._early_exit is None:
            return decoder(ids)
        rows = tf.shape(ids)[:1]
        return decoder(ids, tf.fill(rows, self._early_exit.threshold))


def _next(sizes: Sequence[int], size: tf.Tensor) -> tf.Tensor:
    """Returns the first of increasing sizes that is not below another."""
    return tf.gather(
        sizes, tf.reduce_sum(tf.cast(tf.constant(sizes) < size, tf.int32))
    )


def _check_sizes(**sizes: Any) -> None:
    for name, each in sizes.items():
        whole = isinstance(each, Sequence) and all(
            isinstance(size, int) and not isinstance(size, bool)
            for size in each
        )
        if not whole or not each or each[0] < 1 or [*each] != sorted({*each}):
            raise ValueError(
                f"`{name}` must be positive integers that increase, such as "
                f"(1, 8, 32). Received: {name}={each!r}."
            )


def _check_padding(model: keras.Model) -> None:
    for layer in flatten_layers(model):
        if not isinstance(layer, Router):
            continue
        if layer.expert_capacity(8, training=False) is not None:
            raise ValueError(
                "`batch_sizes` and `lengths` pad requests, which must change "
                "no answer: routers must be dropless in evaluation. Received: "
                f"a {type(layer).__name__} whose capacity depends on how many "
                f"positions there are, padding among them: {layer.path!r}."
            )
