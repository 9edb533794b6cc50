"""All that TFX calls of a pipeline that learns to write a text for a text."""

import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from keras_moe import serving
from keras_moe.calibration import Certificate
from keras_moe.calibration import edit_distance_error
from keras_moe.calibration import risk_consistency
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.texts._read_examples import read_examples
from keras_moe.components.texts._text_column import PAD_ID
from keras_moe.components.texts._text_column import TextColumn
from keras_moe.components.training._calibration_task import CalibrationTask
from keras_moe.components.training._calibration_task import CalibrationTaskArgs
from keras_moe.generation import EarlyExitPolicy
from keras_moe.model_folder import KERAS_MODEL
from keras_moe.ops import shift_right

OK = "ok"
EMPTY = "empty"
TOO_LONG = "too_long"

_STATUS = "status"
# Batches whose examples are sorted by length before they are parted again, so
# that little of a batch is padding.
_SORTED = 8


class TextToText:
    """What Transform, Trainer and `ExitCalibrator` do in a text-to-text task.

    Examples have two features, texts, which bear the columns' names. Requests
    have the source, answers the target and a `status`: `"ok"`, or `"empty"` or
    `"too_long"` of a source that is not answered.

    Args:
        source: `TextColumn`, or its attributes.
        target: `TextColumn`, or its attributes.

    Attributes:
        source: the column.
        target: the column.

    Example:
    ```python
    def preprocessing_fn(inputs, custom_config):
        task = keras_moe.components.TextToText(**custom_config["texts"])
        return task.preprocess(inputs)

    def exit_task(args):
        task = keras_moe.components.TextToText(**args.custom_config["texts"])
        return task.exit_task(args)
    ```
    """

    def __init__(
        self,
        source: TextColumn | Mapping[str, Any],
        target: TextColumn | Mapping[str, Any],
    ) -> None:
        self.source = _column(source)
        self.target = _column(target)

    def preprocess(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        """Makes ids of texts, in a `preprocessing_fn`.

        Args:
            inputs: texts by the columns' names.

        Returns:
            int64 ids `(batch, max_length + 1)` by the columns' names, and
            `status` of the source. A source that is refused is all padding.
        """
        texts = tf.reshape(inputs[self.source.name], [-1])
        sizes = self.source.split(texts).row_lengths()
        status = tf.where(sizes > self.source.max_length, TOO_LONG, OK)
        status = tf.where(sizes == 0, EMPTY, status)
        ids = self.source.learn(texts)
        taken = tf.expand_dims(status == OK, 1)
        target = tf.reshape(inputs[self.target.name], [-1])
        return {
            self.source.name: tf.where(taken, ids, tf.cast(PAD_ID, tf.int64)),
            self.target.name: self.target.learn(target),
            _STATUS: status,
        }

    def vocabulary_sizes(self, transform_graph_path: str) -> tuple[int, int]:
        """Returns the numbers of ids of source and target.

        Args:
            transform_graph_path: Transform's output.
        """
        transformed = tft.TFTransformOutput(transform_graph_path)
        source, target = (
            len(column.vocabulary(transformed))
            for column in (self.source, self.target)
        )
        return source, target

    def batches(
        self, file_patterns: Sequence[str], batch_size: int, seed: int = 0
    ) -> Any:
        """Returns what `keras_moe.training.Trainer.fit` takes.

        Args:
            file_patterns: of Transform's examples.
            batch_size: examples of a batch.
            seed: of the order.

        Returns:
            A function from the number of an epoch to an endless data set of
            `({"encoder_token_ids": ids, "decoder_token_ids": ids}, ids)`, as
            long as the longest row. The rows of a batch are of like length.
        """
        sources, targets = self._ids(file_patterns)
        lengths = _lengths(sources) + _lengths(targets)
        rows = tf.data.Dataset.range(len(sources))
        # More than a pass would bring copies of a row together.
        pooled = min(max(len(sources) // batch_size, 1), _SORTED)

        def by_length(numbers: tf.Tensor) -> tf.Tensor:
            return tf.gather(numbers, tf.argsort(tf.gather(lengths, numbers)))

        def epoch_batches(epoch: int) -> tf.data.Dataset:
            order = 100_000 * seed + epoch
            # All of them: an epoch may take fewer than there are, and would
            # never come to the last ones.
            shuffled = rows.shuffle(len(sources), seed=order).repeat()
            pools = shuffled.batch(pooled * batch_size).map(by_length)
            batches = pools.unbatch().batch(batch_size)
            return _taught(
                batches.shuffle(pooled, seed=order), sources, targets
            )

        return epoch_batches

    def validation_batches(
        self, file_patterns: Sequence[str], batch_size: int
    ) -> tf.data.Dataset:
        """Returns one pass over examples, in batches as of `batches`.

        Args:
            file_patterns: of Transform's examples.
            batch_size: examples of a batch; the last may have fewer.
        """
        sources, targets = self._ids(file_patterns)
        rows = tf.argsort(_lengths(sources) + _lengths(targets))
        batches = tf.data.Dataset.from_tensor_slices(rows).batch(batch_size)
        return _taught(batches, sources, targets)

    def _ids(self, file_patterns: Sequence[str]) -> list[tf.Tensor]:
        """Returns the padded ids of all sources and of all targets."""
        spec = {
            column.name: tf.io.FixedLenFeature([column.max_length + 1], "int64")
            for column in (self.source, self.target)
        }
        examples = read_examples(file_patterns, spec)
        return [examples[name] for name in (self.source.name, self.target.name)]

    def export(
        self,
        model: keras.Model,
        transform_graph_path: str,
        directory: str | os.PathLike,
        policy: EarlyExitPolicy | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        """Writes what is served, and the Keras model beside it.

        Args:
            model: generates ids of the target.
            transform_graph_path: Transform's output.
            directory: where to write, here or in a remote store.
            policy: when a unit may leave the decoder early.
            certificate: of model and policy.
        """
        transformed = tft.TFTransformOutput(transform_graph_path)
        vocabulary = self.target.vocabulary(transformed)
        layer = transformed.transform_features_layer()
        with written_locally(directory) as local:
            serving.export(
                model,
                local,
                tokenize=lambda texts: self._tokenize(layer, texts),
                detokenize=lambda ids: self.target.decode(ids, vocabulary),
                max_length=self.target.max_length + 1,
                tracked=(layer,),
                input_name=self.source.name,
                output_name=self.target.name,
                early_exit=policy,
                certificate=certificate,
                assets={KERAS_MODEL.name: model.save},
            )

    def exit_task(self, args: CalibrationTaskArgs) -> CalibrationTask:
        """Makes the task of `ExitCalibrator`.

        The loss is what an early answer adds to the error of the full model:
        edits over the length of the right answer.

        Args:
            args: with Transform's output.

        Raises:
            ValueError: if Transform's output is missing.
        """
        graph = args.transform_graph_path
        if graph is None:
            raise ValueError(
                "`ExitCalibrator` must be given Transform's output, which has "
                "the vocabulary. Received: transform_graph=None."
            )
        transformed = tft.TFTransformOutput(graph)
        vocabulary = self.target.vocabulary(transformed)
        names = (self.source.name, self.target.name)
        examples = read_examples(
            args.example_files,
            {name: tf.io.FixedLenFeature([], tf.string) for name in names},
        )
        right = [[units] for units in self._units(examples[names[1]])]

        def loss(early: np.ndarray, full: np.ndarray) -> np.ndarray:
            early_units, full_units = (
                self._units(self.target.decode(tf.constant(ids), vocabulary))
                for ids in (early, full)
            )
            return risk_consistency(
                early_units, full_units, right, edit_distance_error
            )

        def export(directory: Any, policy: Any, certificate: Any) -> None:
            self.export(args.models[0], graph, directory, policy, certificate)

        layer = transformed.transform_features_layer()
        ids = self._tokenize(layer, examples[names[0]])["encoder_token_ids"]
        return CalibrationTask(ids.numpy(), loss, export)

    def _tokenize(self, layer: Any, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        features = layer({self.source.name: tf.expand_dims(texts, 1)})
        return {
            "encoder_token_ids": features[self.source.name],
            _STATUS: features[_STATUS],
        }

    def _units(self, texts: tf.Tensor) -> list[list[bytes]]:
        return self.target.split(texts).to_list()


def _column(given: TextColumn | Mapping[str, Any]) -> TextColumn:
    return given if isinstance(given, TextColumn) else TextColumn(**given)


def _taught(
    batches: tf.data.Dataset, sources: tf.Tensor, targets: tf.Tensor
) -> tf.data.Dataset:
    """Returns what a model learns from batches of the numbers of rows."""

    def teach(rows: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        target = _trim(tf.gather(targets, rows))
        inputs = {
            "encoder_token_ids": _trim(tf.gather(sources, rows)),
            "decoder_token_ids": shift_right(target),
        }
        return inputs, target

    return batches.map(teach, num_parallel_calls=2).prefetch(4)


def _lengths(ids: tf.Tensor) -> tf.Tensor:
    return tf.math.count_nonzero(ids != PAD_ID, axis=1)


def _trim(ids: tf.Tensor) -> tf.Tensor:
    """Cuts off the columns at the end that are padding in every row."""
    return ids[:, : tf.maximum(tf.reduce_max(_lengths(ids)), 1)]
