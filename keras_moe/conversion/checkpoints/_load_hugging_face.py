"""Hugging Face's checkpoints become models of ours."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_moe.conversion.checkpoints._assign_origins import Progress
from keras_moe.conversion.checkpoints._assign_origins import assign_origins
from keras_moe.conversion.checkpoints._assign_origins import check_origins
from keras_moe.conversion.checkpoints._hugging_face_config import read_config
from keras_moe.conversion.checkpoints._hugging_face_config import read_family
from keras_moe.conversion.checkpoints._hugging_face_names import DECODER_TABLE
from keras_moe.conversion.checkpoints._hugging_face_names import ENCODER_TABLE
from keras_moe.conversion.checkpoints._hugging_face_names import HEAD
from keras_moe.conversion.checkpoints._hugging_face_names import SHARED
from keras_moe.conversion.checkpoints._hugging_face_names import UNREAD
from keras_moe.conversion.checkpoints._hugging_face_names import (
    hugging_face_origins,
)
from keras_moe.conversion.checkpoints._origin import Origin
from keras_moe.conversion.checkpoints._safetensors_folder import (
    open_safetensors,
)
from keras_moe.conversion.checkpoints._stored_tensor import StoredTensor
from keras_moe.keras_internals import zeros_for_random_values
from keras_moe.models import SwitchTransformer
from keras_moe.weights import named_weights
from keras_moe.weights._named_weights import without_state


def load_hugging_face(
    directory: str | os.PathLike,
    *,
    dtype: Any = None,
    progress: Progress | None = None,
) -> SwitchTransformer:
    """Loads a checkpoint of Switch Transformers or T5 as Hugging Face has it.

    Reads `SwitchTransformersForConditionalGeneration`, and
    `T5ForConditionalGeneration` of version 1.0 (ReLU, one table) and 1.1
    (gated GELU, a head of its own), mT5 and Flan-T5 among them. Needs neither
    PyTorch nor `transformers`, runs no code of the checkpoint, and reads
    tensor by tensor.

    Logits are equal to theirs as long as no expert is chosen by more than
    their `expert_capacity` (64) tokens of a sequence: later ones are dropped
    there, and never here outside of training. Greedy answers are equal where
    theirs says no padding, which decoders here never do. In training the
    losses of the router are those of the Switch paper, with the weights that
    the file has, and `capacity_factor` says how many tokens an expert takes.

    Args:
        directory: with `config.json`, and `model.safetensors` or
            `model.safetensors.index.json` and the files that it names.
        dtype: dtype or policy of the model. Tensors of another float are cast.
        progress: called with the name of each weight, before it is read,
            and the names of the tensors that it is made of.

    Returns:
        The model, with every weight set. Every tensor was used, but for copies
        of the table of embeddings, which were compared, and for T5's old table
        of distances between sequences, which nothing reads.

    Raises:
        ValueError: if the checkpoint is of another model, or of one that
            `SwitchTransformer` cannot express; if a tensor is missing, not
            expected, of another shape, or stored as a pickle; if a file is
            not what it says. There is no model then.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset("switch_tiny")
    >>> keras_moe.conversion.save_hugging_face(model, directory)
    >>> loaded = keras_moe.conversion.load_hugging_face(directory)
    >>> loaded.config.num_experts == model.config.num_experts
    True
    """
    folder = pathlib.Path(directory)
    given = _read_json(folder)
    family = read_family(given)
    tensors = open_safetensors(folder)
    for name in UNREAD:
        tensors.pop(name, None)
    ends = _tables(tensors) | _head(given, family, tensors)
    _check_depths(given, len(tensors))
    config = read_config(
        given,
        tie_embeddings="head/kernel" not in ends,
        two_tables="source_embedding/embeddings" in ends,
    )
    origins = ends | hugging_face_origins(config, family)
    with zeros_for_random_values():
        model = SwitchTransformer(config, dtype=dtype)
        weights = without_state(named_weights(model), model)
        # No weight has memory before the context ends.
        check_origins(weights, origins, tensors)
    assign_origins(weights, origins, tensors, progress)
    return model


def _read_json(folder: pathlib.Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(
            "`directory` must hold config.json; nothing is downloaded. "
            f"Received: {folder}."
        )
    try:
        given = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"`config.json` must be JSON. Received: {error}."
        ) from error
    if not isinstance(given, dict):
        raise ValueError(
            "`config.json` must hold an object. Received: "
            f"{type(given).__name__}."
        )
    return given


def _check_depths(given: Mapping[str, Any], num_tensors: int) -> None:
    """Keeps a file that lies from having endless names made."""
    for field in ("num_layers", "num_decoder_layers", "num_experts"):
        number = given.get(field)
        if isinstance(number, int) and number > num_tensors:
            raise ValueError(
                f"`{field}` must be at most the number of tensors, "
                f"{num_tensors}. Received: {field}={number}."
            )


def _tables(tensors: dict[str, StoredTensor]) -> dict[str, Origin]:
    """Says which tensors are the tables of embeddings, and drops copies.

    `transformers` stores one table under up to three names. Where their values
    differ, each stack has one of its own, and the shared one is not read.
    """
    shared = tensors.get(SHARED)
    encoder = tensors.pop(ENCODER_TABLE, shared)
    decoder = tensors.pop(DECODER_TABLE, shared)
    if encoder is None or decoder is None:
        raise ValueError(
            f"The checkpoint must hold {SHARED}, or a table for each stack. "
            "Received: no such tensor."
        )
    if encoder.equals(decoder):
        tensors[SHARED] = decoder
        return {"target_embedding/embeddings": Origin((SHARED,))}
    tensors.pop(SHARED, None)
    tensors |= {ENCODER_TABLE: encoder, DECODER_TABLE: decoder}
    return {
        "source_embedding/embeddings": Origin((ENCODER_TABLE,)),
        "target_embedding/embeddings": Origin((DECODER_TABLE,)),
    }


def _head(
    given: Mapping[str, Any], family: str, tensors: dict[str, StoredTensor]
) -> dict[str, Origin]:
    """Says which tensor is the head, if any, and what scales it.

    The head of T5 1.0 is the decoder's table, and its input is scaled. That of
    1.1 is a matrix of its own, without a scale. Values decide whether there is
    one matrix or two, as in `transformers`, whose files say
    `tie_word_embeddings` in both cases. A head that `SwitchTransformer` would
    scale otherwise becomes one of its own, with the scale in its values.
    """
    scaled = given.get("tie_word_embeddings") is not False
    if family == "t5":
        scaled = given.get("scale_decoder_outputs", scaled)
    if given["model_type"] == "mt5":  # which has no scale, whatever it says
        scaled = False
    table = DECODER_TABLE if DECODER_TABLE in tensors else SHARED
    head = tensors.get(HEAD, tensors[table])
    if head.equals(tensors[table]):
        if scaled:
            tensors.pop(HEAD, None)
            return {}
        tensors[HEAD] = head
    scale = head.shape[-1] ** -0.5 if scaled else 1.0
    return {"head/kernel": Origin((HEAD,), transposed=True, scale=scale)}
