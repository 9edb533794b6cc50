"""From a trained model to a SavedModel that answers text with text."""

import dataclasses
import os
from collections.abc import Callable
from collections.abc import Iterable

import keras
import tensorflow as tf

from keras_moe.calibration import Certificate
from keras_moe.calibration import exit_policy
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation import decode
from keras_moe.generation._decode import check_decoding
from keras_moe.weights import fingerprint

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
    early_exit: EarlyExitPolicy | None = None,
    certificate: Certificate | None = None,
    allow_lower_threshold: bool = False,
) -> None:
    """Writes a sequence model as a SavedModel for TensorFlow Serving.

    Two signatures, three with `early_exit`, with the same outputs:

    - `serving_default(word: string[None])`,
    - `examples(examples: string[None])`, serialized `tf.train.Example`s, for
      TFX's Evaluator and InfraValidator,
    - `with_threshold(word: string[None], threshold: float32[None])`, a
      threshold for each row, or one for all. One below the certified is raised
      to it, and one that is not a number lets nothing leave early.

    Outputs: `phonemes`, string `[None]`; `token_ids`, int32 `[None,
    max_length]`; `log_probability`, float32 `[None]`; with `early_exit` also
    `exit_layer`, int32, and `confidence`, float32, of each token; and whatever
    else `tokenize` returns, such as a `status` for each row.

    The graph is pure: decoding leaves losses and metrics out, so no variable
    is ever assigned. The answer for a row does not depend on the others.

    Args:
        model: a `keras.Model` that is a `keras_moe.generation.Decodable`, such
            as `keras_moe.models.SwitchTransformer`.
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
        early_exit: when a token may leave the decoder early; `None` for never.
        certificate: a `keras_moe.calibration.Certificate` of this model and
            policy. Its threshold is served instead of the policy's, and it
            is written to `assets.extra/certificate.json`.
        allow_lower_threshold: whether a client may ask for less than the
            certified threshold (without a certificate: the policy's).

    Raises:
        ValueError: if `directory` holds files already, an argument is out of
            its range, or the certificate is of another model or policy.

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
    if tf.io.gfile.exists(directory) and tf.io.gfile.listdir(directory):
        raise ValueError(
            "`directory` must be new or empty. Received: "
            f"directory={directory!r}, which holds files."
        )

    check_decoding(model, max_length, None, early_exit)
    if certificate is not None:
        early_exit = _certified(model, early_exit, certificate, max_length)

    def answer(
        words: tf.Tensor, threshold: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        features = _check_features(tokenize(words))
        ids = tf.cast(features.pop("encoder_token_ids"), tf.int32)
        decoded = decode(
            model, ids, max_length, early_exit=early_exit, threshold=threshold
        )
        return {
            output_name: detokenize(decoded["token_ids"]),
            **decoded,
            **features,
        }

    floor = None
    if early_exit is not None and not allow_lower_threshold:
        floor = early_exit.threshold

    def answer_with(
        words: tf.Tensor, threshold: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        threshold = tf.broadcast_to(threshold, tf.shape(words))
        if floor is not None:
            unknown = tf.math.is_nan(threshold)
            threshold = tf.maximum(threshold, floor)
            threshold = tf.where(unknown, float("inf"), threshold)
        return answer(words, threshold)

    def answer_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, example_spec)
        return answer(tf.reshape(parsed[input_name], [-1]))

    words = tf.TensorSpec([None], tf.string, name=input_name)
    archive = keras.export.ExportArchive()
    archive.track(model)
    # `archive.name = resource` would not track it.
    for resource in tracked:
        archive.track(resource)
    archive.add_endpoint("serving_default", answer, input_signature=[words])
    archive.add_endpoint(
        "examples",
        answer_examples,
        input_signature=[tf.TensorSpec([None], tf.string, name="examples")],
    )
    if early_exit is not None:
        threshold = tf.TensorSpec([None], tf.float32, name="threshold")
        archive.add_endpoint(
            "with_threshold", answer_with, input_signature=[words, threshold]
        )
    _write_out(archive, directory, certificate)


def _certified(
    model: keras.Model,
    early_exit: EarlyExitPolicy | None,
    certificate: Certificate,
    max_length: int,
) -> EarlyExitPolicy:
    """Returns the policy with the threshold that is certified for it."""
    if early_exit is None:
        raise ValueError(
            "A `certificate` needs the policy that it was made for. Received: "
            "early_exit=None."
        )
    if not isinstance(certificate, Certificate):
        raise ValueError(
            "`certificate` must be a `keras_moe.calibration.Certificate`; "
            "`Certificate.load` reads one. Received: "
            f"certificate={certificate!r}."
        )
    certificate.check(
        fingerprint=fingerprint(model),
        policy=exit_policy(early_exit, max_length),
    )
    return dataclasses.replace(early_exit, threshold=certificate.threshold)


def _check_features(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    if not isinstance(features, dict) or "encoder_token_ids" not in features:
        raise ValueError(
            "`tokenize` must return a dictionary with `encoder_token_ids`. "
            f"Received: {features!r}."
        )
    return dict(features)


def _write_out(
    archive: keras.export.ExportArchive,
    directory: str,
    certificate: Certificate | None,
) -> None:
    """Writes under a temporary name, then renames."""
    partial = directory.rstrip("/") + ".partial"
    if tf.io.gfile.exists(partial):
        tf.io.gfile.rmtree(partial)
    archive.write_out(partial, verbose=False)
    if certificate is not None:
        extra = os.path.join(partial, "assets.extra")
        tf.io.gfile.makedirs(extra)
        path = os.path.join(extra, "certificate.json")
        with tf.io.gfile.GFile(path, "w") as file:
            file.write(certificate.to_json())
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)
    tf.io.gfile.rename(partial, directory)
