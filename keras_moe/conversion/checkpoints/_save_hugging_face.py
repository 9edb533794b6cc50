"""Models of ours become Hugging Face's checkpoints."""

import json
import math
import os
import pathlib
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops
from safetensors import SafetensorError
from safetensors.numpy import save_file

from keras_moe.atomic_file import atomic_file
from keras_moe.conversion.checkpoints._assign_origins import Progress
from keras_moe.conversion.checkpoints._hugging_face_config import write_config
from keras_moe.conversion.checkpoints._hugging_face_names import HEAD
from keras_moe.conversion.checkpoints._hugging_face_names import SHARED
from keras_moe.conversion.checkpoints._hugging_face_names import (
    hugging_face_origins,
)
from keras_moe.conversion.checkpoints._origin import Origin
from keras_moe.conversion.checkpoints._safetensors_folder import INDEX
from keras_moe.conversion.checkpoints._safetensors_folder import SINGLE
from keras_moe.models import SwitchTransformer
from keras_moe.weights import named_weights
from keras_moe.weights._named_weights import without_state

_ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def save_hugging_face(
    model: SwitchTransformer,
    directory: str | os.PathLike,
    *,
    max_shard_bytes: int = 5_000_000_000,
    progress: Progress | None = None,
) -> None:
    """Writes a checkpoint that `transformers` loads, without PyTorch.

    A sparse model becomes `SwitchTransformersForConditionalGeneration`, a dense
    one `T5ForConditionalGeneration`. The config comes last: a directory without
    one is not whole.

    Args:
        model: with softmax attention and relative positions; sparse ones with
            `"switch"` routers and no gates.
        directory: new, or empty.
        max_shard_bytes: of each file, unless a weight alone is larger.
        progress: called with the name of each weight, before it is written,
            and the names of the tensors that it becomes.

    Raises:
        ValueError: if `directory` holds something; if the model has what
            theirs cannot express, LoRA, quantised weights or a learned
            confidence of exits among it.
        OSError: if a file cannot be written, say on a full disk.

    Example:

    >>> model = keras_moe.models.SwitchTransformer.from_preset(
    ...     "switch_tiny", num_experts=0
    ... )
    >>> keras_moe.conversion.save_hugging_face(model, directory)
    >>> import json
    >>> json.load(open(directory + "/config.json"))["model_type"]
    't5'
    """
    if max_shard_bytes < 1:
        raise ValueError(
            "`max_shard_bytes` must be positive. Received: max_shard_bytes="
            f"{max_shard_bytes}."
        )
    described = write_config(model.config)
    weights = without_state(named_weights(model), model)
    origins = {
        "target_embedding/embeddings": Origin((SHARED,)),
        **hugging_face_origins(model.config, described["model_type"]),
    }
    if not model.config.tie_embeddings:
        origins["head/kernel"] = Origin((HEAD,), transposed=True)
    others = sorted(set(weights) ^ set(origins))
    if others:
        raise ValueError(
            "The model must have the weights of its config alone, without LoRA "
            "and in floats. Received, beside them or missing: "
            f"{', '.join(others[:5])}, {len(others)} in all."
        )
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(
            f"`directory` must be new, or empty. Received: {folder}."
        )
    shards = _shards(weights, origins, max_shard_bytes)
    _write_shards(folder, weights, shards, progress)
    with atomic_file(folder / "config.json") as partial:
        partial.write_text(json.dumps(described, indent=2), "utf-8")


def _shards(
    weights: Mapping[str, keras.Variable],
    origins: Mapping[str, Origin],
    max_bytes: int,
) -> list[dict[str, Origin]]:
    """Says which weights go into which file, in their order."""
    shards: list[dict[str, Origin]] = [{}]
    filled = 0
    for name, origin in origins.items():
        weight = weights[name]
        size = math.prod(weight.shape) * _ITEM_BYTES[weight.dtype]
        if shards[-1] and filled + size > max_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = origin
        filled += size
    return shards


def _write_shards(
    folder: pathlib.Path,
    weights: Mapping[str, keras.Variable],
    shards: list[dict[str, Origin]],
    progress: Progress | None,
) -> None:
    files: dict[str, str] = {}
    total = 0
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        if len(shards) == 1:
            file = SINGLE
        tensors: dict[str, np.ndarray] = {}
        for name, origin in shard.items():
            if progress is not None:
                progress(name, origin.names)
            tensors |= _tensors(origin, ops.convert_to_numpy(weights[name]))
        # `transformers` asks for the format that it is written in.
        with atomic_file(folder / file) as partial:
            try:
                save_file(tensors, partial, metadata={"format": "pt"})
            except SafetensorError as error:
                raise OSError(
                    f"{folder / file} could not be written: {error}"
                ) from error
        files |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": files}
        with atomic_file(folder / INDEX) as partial:
            partial.write_text(json.dumps(index, indent=2), "utf-8")


def _tensors(origin: Origin, value: np.ndarray) -> dict[str, np.ndarray]:
    parts = value if origin.stacked else [value]
    return {
        name: np.ascontiguousarray(part.T if origin.transposed else part)
        for name, part in zip(origin.names, parts, strict=True)
    }
