"""`keras-moe export`: from a Keras model to a version that is served."""

import pathlib
from collections.abc import Callable
from collections.abc import Mapping
from typing import Annotated
from typing import Any

import keras
import tensorflow as tf
import typer

from keras_moe import serving
from keras_moe.calibration import Certificate
from keras_moe.command._answers import AsJson
from keras_moe.command._answers import errors_in_one_line
from keras_moe.command._answers import show
from keras_moe.command._facts_of_saved_model import facts_of_saved_model
from keras_moe.command._numbers import to_sizes
from keras_moe.command._texts import Tokenizer
from keras_moe.command._texts import texts_of
from keras_moe.generation import Answering
from keras_moe.generation import Decodable
from keras_moe.generation import EarlyExitPolicy
from keras_moe.serving.versions._version_folders import find_versions
from keras_moe.serving.versions._version_folders import next_version

_MAX_LENGTH = 64


def export(
    model_file: Annotated[
        pathlib.Path,
        typer.Argument(metavar="MODEL", help="A `.keras` file."),
    ],
    directory: Annotated[
        pathlib.Path,
        typer.Argument(
            metavar="DIR",
            help="The directory of the model's versions, as `keras-moe serve` "
            "takes it; made if it is missing.",
        ),
    ],
    version: Annotated[
        int | None,
        typer.Option(min=0, help="Its number; the time, unless given."),
    ] = None,
    tokenizer: Tokenizer = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            "--max_length",
            min=1,
            help="Most tokens of an answer: the certificate's, or 64.",
        ),
    ] = None,
    certificate: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Of early exits, from `keras-moe calibrate`, or of a cascade: "
            "its threshold is served."
        ),
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            "--batch_sizes",
            help="Numbers of rows to compile programs for, such as 1,8,32.",
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="Numbers of source tokens, such as 8,16,32."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a version that `keras-moe serve` and TensorFlow Serving answer by.

    A sequence model answers texts; any other one what `call` takes.
    """
    with errors_in_one_line("Not exported.", as_json) as console:
        folder = _version_folder(directory, version)
        sequence = {
            "--tokenizer": tokenizer,
            "--max_length": max_length,
            "--certificate": certificate,
            "--batch_sizes": batch_sizes,
            "--lengths": lengths,
        }
        granted = None
        if certificate is not None:
            granted = Certificate.load(certificate)
        shapes: dict[str, Any] = {
            "batch_sizes": to_sizes("--batch_sizes", batch_sizes),
            "lengths": to_sizes("--lengths", lengths),
        }
        with console.status("Exporting"):
            model = keras.saving.load_model(model_file, compile=False)
            if isinstance(model, Decodable | Answering):
                policy, most = _decoding_of(granted, max_length)
                texts = texts_of(model, tokenizer)
                serving.export(
                    model,
                    folder,
                    texts.tokenize,
                    texts.detokenize,
                    most,
                    tracked=texts.tracked,
                    early_exit=policy,
                    certificate=granted,
                    **shapes,
                )
            else:
                _refuse_options(sequence, model)
                specs = _specs_of(model)
                serving.export_endpoints(
                    folder,
                    {"serving_default": (_call_endpoint(model), specs)},
                    [model],
                )
        facts = {"version": str(folder), **facts_of_saved_model(folder)}
    show(facts, as_json)


def _version_folder(base: pathlib.Path, version: int | None) -> pathlib.Path:
    """Returns the folder of a new version, of which nothing is there yet."""
    if base.exists() and not base.is_dir():
        raise ValueError(f"`DIR` must be a directory. Received: {base}.")
    taken = find_versions(base)
    folder = base / str(next_version(taken) if version is None else version)
    if folder.exists():
        raise ValueError(f"`--version` must be new. Received: {folder}.")
    return folder


def _decoding_of(
    certificate: Certificate | None, max_length: int | None
) -> tuple[EarlyExitPolicy | None, int]:
    """Returns the policy that a certificate names, and the longest answer."""
    if certificate is None:
        return None, max_length or _MAX_LENGTH
    policy = dict(certificate.policy or {})
    if policy.get("kind") == "cascade":
        return None, max_length or _MAX_LENGTH
    most = policy.pop("max_length", None)
    try:
        exits = EarlyExitPolicy(threshold=certificate.threshold, **policy)
    except TypeError as error:
        raise ValueError(
            "`--certificate` must be one of early exits or of a cascade. "
            f"Received: one whose policy is {certificate.policy}."
        ) from error
    return exits, max_length or most or _MAX_LENGTH


def _refuse_options(given: Mapping[str, Any], model: keras.Model) -> None:
    """Raises `ValueError` for options of sequence models alone."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                f"`{name}` is for models that decode sequences. Received it "
                f"for a {type(model).__name__}."
            )


def _specs_of(model: keras.Model) -> list[tf.TensorSpec]:
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise ValueError(
            "`MODEL` must say what it takes, as functional and sequential "
            "models do, or decode sequences. `keras_moe.serving."
            f"export_endpoints` writes others. Received: a "
            f"{type(model).__name__}."
        )
    return [
        tf.TensorSpec(each.shape, each.dtype, name=each.name) for each in inputs
    ]


def _call_endpoint(model: keras.Model) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns a function from a model's inputs to its outputs, by name."""
    # A `Sequential` has no `input` before something calls it.
    one = isinstance(model, keras.Sequential)
    structure = model.inputs[0] if one else model.input

    def answer(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = keras.tree.pack_sequence_as(structure, list(tensors))
        outputs = model(inputs, training=False)
        if isinstance(outputs, Mapping):
            return dict(outputs)
        found = keras.tree.flatten(outputs)
        if len(found) == 1:
            return {"outputs": found[0]}
        return dict(zip(model.output_names, found, strict=True))

    return answer
