"""From a trained model to a SavedModel that answers text with text."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_moe.calibration import Certificate
from keras_moe.calibration import exit_policy
from keras_moe.generation import EarlyExitPolicy
from keras_moe.generation._decode import check_decoding
from keras_moe.keras_internals import flatten_layers
from keras_moe.layers import RandomFeatures
from keras_moe.layers.attention._feature_noise import warn_of_noisy_features
from keras_moe.model_folder import CERTIFICATE
from keras_moe.models import Cascade
from keras_moe.serving.exporting._check_endpoints import WriteFn
from keras_moe.serving.exporting._check_endpoints import check_directory
from keras_moe.serving.exporting._check_endpoints import is_input_name
from keras_moe.serving.exporting._compiled_shapes import CompiledShapes
from keras_moe.serving.exporting._export_endpoints import write_endpoints
from keras_moe.serving.exporting._text_endpoints import DetokenizeFn
from keras_moe.serving.exporting._text_endpoints import TextEndpoints
from keras_moe.serving.exporting._text_endpoints import TokenizeFn
from keras_moe.weights import fingerprint

_OF_ANOTHER_KIND = (
    "Use `keras_moe.serving.export_endpoints` or `keras-moe export`."
)


def export(
    model: keras.Model,
    directory: str | os.PathLike[str],
    tokenize: TokenizeFn,
    detokenize: DetokenizeFn,
    max_length: int = 64,
    example_spec: dict | None = None,
    tracked: Iterable = (),
    input_name: str = "inputs",
    output_name: str = "outputs",
    early_exit: EarlyExitPolicy | None = None,
    certificate: Certificate | None = None,
    allow_lower_threshold: bool = False,
    assets: Mapping[str, WriteFn] | None = None,
    batch_sizes: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
) -> None:
    """Writes a sequence model as a SavedModel for TensorFlow Serving.

    Two signatures and more, with the same outputs:

    - `serving_default(inputs: string[None])`,
    - `examples(examples: string[None])`, serialized `tf.train.Example`s, for
      TFX's Evaluator and InfraValidator,
    - `with_threshold(inputs: string[None], threshold: float32[None])`, a
      threshold for each row, or one for all. One below the certified is raised
      to it, and one that is not a number lets nothing leave early; with
      `early_exit`,
    - `compiled(inputs: string[None])`, several times faster, and
      `compiled_ids(token_ids: int32[None, None])`, of what is tokenised
      already, without what else `tokenize` returns; with `batch_sizes` and
      `lengths`. They run programs that XLA compiles, on a CPU as well, which
      the stock server does where it is told so
      (`--xla_cpu_compilation_enabled`).

    Outputs: `outputs`, string `[None]`; `token_ids`, int32 `[None,
    max_length]`; `log_probability`, float32 `[None]`; with `early_exit` also
    `exit_layer`, int32, and `confidence`, float32, of each token; and whatever
    else `tokenize` returns, such as a `status` for each row.

    The graph is pure: decoding leaves losses and metrics out, so no variable
    is ever assigned. The answer for a row does not depend on the others.

    Args:
        model: a `keras.Model` that is a `keras_moe.generation.Decodable`, such
            as `keras_moe.models.SwitchTransformer`; or a
            `keras_moe.models.Cascade` of such. Its signatures tell the `stage`
            of each row.
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
        input_name: name of the signature's input, and of the feature, such as
            `"word"`.
        output_name: name of the answer, such as `"phonemes"`.
        early_exit: when a token may leave the decoder early; `None` for never.
        certificate: a `keras_moe.calibration.Certificate` of this model and
            policy, or of a rule of this cascade. Its threshold is served
            instead of the policy's, and it is written to
            `assets.extra/certificate.json`; the graph names it by its digest,
            and a server refuses another in its place.
        allow_lower_threshold: whether a client may ask for less than the
            certified threshold (without a certificate: the policy's).
        assets: name of another file in `assets.extra` to the function that
            writes it; see `keras_moe.serving.export_endpoints`.
        batch_sizes: numbers of rows, such as `(1, 8, 32)`, for which programs
            are compiled, one for each length: requests are padded to the next
            that fits, and cut into pieces where they have more rows than the
            last. Warm-up requests of all of them go with the model.
        lengths: numbers of source tokens, such as `(8, 16, 32)`. Longer sources
            are decoded without such a program.

    Raises:
        ValueError: if `directory` is not new or empty, an argument is out of
            its range, two outputs have one name, the certificate is of
            another model or policy, or there are `batch_sizes` and the model's
            answers depend on padding.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> keras_moe.serving.export(
    ...     model,
    ...     directory,
    ...     tokenize=lambda texts: {
    ...         "encoder_token_ids": tf.strings.unicode_decode(texts, "UTF-8")
    ...         .to_tensor() % 32
    ...     },
    ...     detokenize=lambda ids: tf.strings.reduce_join(
    ...         tf.strings.as_string(ids), axis=1, separator=" "
    ...     ),
    ...     max_length=8,
    ... )
    >>> served = tf.saved_model.load(directory)
    >>> answer = served.signatures["serving_default"]
    >>> sorted(answer(inputs=tf.constant(["hi"])))
    ['log_probability', 'outputs', 'token_ids']
    """
    if not is_input_name(input_name) or (
        early_exit is not None and input_name == "threshold"
    ):
        raise ValueError(
            "`input_name` must be ASCII, as Python names a variable, without "
            "an underscore in front, and neither 'self' nor, with "
            f"`early_exit`, 'threshold'. Received: input_name={input_name!r}."
        )
    if not isinstance(output_name, str) or not output_name:
        raise ValueError(
            "`output_name` must be a name. Received: "
            f"output_name={output_name!r}."
        )
    if example_spec is None:
        example_spec = {input_name: tf.io.FixedLenFeature([], tf.string)}
    if input_name not in example_spec:
        raise ValueError(
            f"`example_spec` must hold {input_name!r}. Received: "
            f"{sorted(example_spec)}."
        )
    feature = example_spec[input_name]
    if (
        not isinstance(feature, tf.io.FixedLenFeature)
        or feature.dtype != tf.string
    ):
        raise ValueError(
            f"`example_spec[{input_name!r}]` must be a `tf.io.FixedLenFeature` "
            f"of one string. Received: {feature!r}."
        )
    for name, function in (("tokenize", tokenize), ("detokenize", detokenize)):
        if not callable(function):
            raise ValueError(
                f"`{name}` must be a function. Received: {name}={function!r}."
            )
    check_decoding(model, max_length, None, early_exit, _OF_ANOTHER_KIND)
    # Checked before the certificate, which takes the time to read all weights.
    check_directory(os.fspath(directory))
    assets = dict(assets or {})
    if CERTIFICATE.name in assets:
        raise ValueError(
            f"`assets` must leave {CERTIFICATE.name!r} to `certificate`, which "
            "is checked."
        )
    if certificate is not None:
        early_exit = _certified(model, early_exit, certificate, max_length)
    least_threshold = None
    if early_exit is not None and not allow_lower_threshold:
        least_threshold = early_exit.threshold
    for layer in flatten_layers(model):
        if isinstance(layer, RandomFeatures):
            warn_of_noisy_features(layer)
    compiled, write_warmup = None, None
    if (batch_sizes is None) != (lengths is None):
        raise ValueError(
            "`batch_sizes` and `lengths` go together. Received: batch_sizes="
            f"{batch_sizes}, lengths={lengths}."
        )
    if batch_sizes is not None and lengths is not None:
        compiled = CompiledShapes(
            model, max_length, batch_sizes, lengths, early_exit
        )
        write_warmup = _warmup_of(compiled)
    text = TextEndpoints(
        model,
        tokenize,
        detokenize,
        max_length,
        input_name,
        output_name,
        example_spec,
        early_exit,
        least_threshold,
        compiled,
    )
    write_endpoints(
        directory,
        text.endpoints(),
        (model, *tracked),
        assets,
        certificate,
        write_warmup,
    )


def _warmup_of(compiled: CompiledShapes) -> WriteFn:
    """Returns what writes a request of each shape."""
    # Imported only where it is wanted: an export needs no extra otherwise.
    try:
        from keras_moe.serving.exporting._write_warmup_requests import (
            write_compiled_requests,
        )
    except ModuleNotFoundError as error:
        raise ImportError(
            "`batch_sizes` and `lengths` write warm-up requests, which needs "
            f"the module {error.name!r}. Install it with `pip install "
            "keras-moe[serving]`."
        ) from error
    return functools.partial(
        write_compiled_requests, sources=compiled.sources()
    )


def _certified(
    model: keras.Model,
    early_exit: EarlyExitPolicy | None,
    certificate: Certificate,
    max_length: int,
) -> EarlyExitPolicy | None:
    """Returns the policy with the threshold that is certified for it."""
    if isinstance(model, Cascade) and isinstance(certificate, Certificate):
        model.check_certificate(certificate)
        return early_exit
    if early_exit is None:
        raise ValueError(
            "`early_exit` must be the policy that `certificate` was made for. "
            "Received: early_exit=None."
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
