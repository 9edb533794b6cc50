"""From a trained model to a SavedModel that answers text with text."""

import os
from collections.abc import Callable
from collections.abc import Iterable

import keras
import tensorflow as tf

from keras_moe.generation import decode

TokenizeFn = Callable[[tf.Tensor], dict[str, tf.Tensor]]
DetokenizeFn = Callable[[tf.Tensor], tf.Tensor]


def export(
    model: keras.Model,
    directory: str | os.PathLike[str],
    tokenize: TokenizeFn,
    detokenize: DetokenizeFn,
    max_length: int = 64,
    example_spec: dict | None = None,
    tracked: Iterable = (),
    input_name: str = "word",
    output_name: str = "phonemes",
) -> None:
    """Writes a sequence model as a SavedModel for TensorFlow Serving.

    Two signatures, with the same outputs:

    - `serving_default(word: string[None])`,
    - `examples(examples: string[None])`, serialized `tf.train.Example`s, for
      TFX's Evaluator and InfraValidator.

    Outputs: `phonemes`, string `[None]`; `token_ids`, int32 `[None,
    max_length]`; `log_probability`, float32 `[None]`; and whatever else
    `tokenize` returns, such as a `status` for each row.

    The graph is pure: decoding leaves losses and metrics out, so no variable
    is ever assigned. The answer for a row does not depend on the others.

    Args:
        model: a `keras_moe.models.SwitchTransformer`, or another model with
            its `start` and `step`.
        directory: where to write; must be new or empty. It appears under its
            name only when it is complete.
        tokenize: in-graph function from strings `[batch]` to a dictionary
            with `encoder_token_ids`, int `[batch, length]`. A row of padding
            alone gives an empty answer.
        detokenize: in-graph function from token ids `[batch, max_length]` to
            strings `[batch]`.
        max_length: greatest number of tokens of an answer.
        example_spec: `tf.io.parse_example`'s spec of the features of an
            example; must hold `input_name`. `None`: that one string.
        tracked: what else holds state of the graph: the layer of a TFX
            Transform, tables.
        input_name: name of the signature's input, and of the feature.
        output_name: name of the answer.

    Raises:
        ValueError: if `directory` holds files already, or an argument is out
            of its range.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> keras_moe.serving.export(
    ...     model,
    ...     directory,
    ...     tokenize=lambda words: {
    ...         "encoder_token_ids": tf.strings.unicode_decode(words, "UTF-8")
    ...         .to_tensor() % 32
    ...     },
    ...     detokenize=lambda ids: tf.strings.reduce_join(
    ...         tf.strings.as_string(ids), axis=1, separator=" "
    ...     ),
    ...     max_length=8,
    ... )
    >>> served = tf.saved_model.load(directory)
    >>> sorted(served.signatures["serving_default"](word=tf.constant(["hi"])))
    ['log_probability', 'phonemes', 'token_ids']
    """
    directory = os.fspath(directory)
    if example_spec is None:
        example_spec = {input_name: tf.io.FixedLenFeature([], tf.string)}
    if input_name not in example_spec:
        raise ValueError(
            f"`example_spec` must hold {input_name!r}. Received: "
            f"{sorted(example_spec)}."
        )
    for name, function in (("tokenize", tokenize), ("detokenize", detokenize)):
        if not callable(function):
            raise ValueError(
                f"`{name}` must be a function. Received: {name}={function!r}."
            )
    if max_length < 1:
        raise ValueError(
            f"`max_length` must be at least 1. Received: {max_length}."
        )
    if tf.io.gfile.exists(directory) and tf.io.gfile.listdir(directory):
        raise ValueError(
            "`directory` must be new or empty. Received: "
            f"directory={directory!r}, which holds files."
        )

    def answer(words: tf.Tensor) -> dict[str, tf.Tensor]:
        features = _check_features(tokenize(words))
        ids = tf.cast(features.pop("encoder_token_ids"), tf.int32)
        decoded = decode(model, ids, max_length)
        return {
            output_name: detokenize(decoded["token_ids"]),
            **decoded,
            **features,
        }

    def answer_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, example_spec)
        return answer(tf.reshape(parsed[input_name], [-1]))

    archive = keras.export.ExportArchive()
    archive.track(model)
    # `archive.name = resource` would not track it.
    for resource in tracked:
        archive.track(resource)
    archive.add_endpoint(
        "serving_default",
        answer,
        input_signature=[tf.TensorSpec([None], tf.string, name=input_name)],
    )
    archive.add_endpoint(
        "examples",
        answer_examples,
        input_signature=[tf.TensorSpec([None], tf.string, name="examples")],
    )
    _write_out(archive, directory)


def _check_features(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    if not isinstance(features, dict) or "encoder_token_ids" not in features:
        raise ValueError(
            "`tokenize` must return a dictionary with `encoder_token_ids`. "
            f"Received: {features!r}."
        )
    return dict(features)


def _write_out(archive: keras.export.ExportArchive, directory: str) -> None:
    """Writes under a temporary name, then renames."""
    partial = directory.rstrip("/") + ".partial"
    if tf.io.gfile.exists(partial):
        tf.io.gfile.rmtree(partial)
    archive.write_out(partial, verbose=False)
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)
    tf.io.gfile.rename(partial, directory)
