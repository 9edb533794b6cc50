"""What a SavedModel says of itself, read without loading it."""

import pathlib
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_moe.command._facts_of_evidence import facts_of_tuned_index
from keras_moe.model_folder import EXTRA_ASSETS
from keras_moe.model_folder import TUNED_INDEX
from keras_moe.model_folder import WARMUP_REQUESTS
from keras_moe.serving.versions._certification import read_certification
from keras_moe.serving.versions._origin import read_origin
from keras_moe.serving.versions._version_bundle import read_saved_model

# TensorFlow's own entry, which is no signature that requests can name.
_INITIALIZER = "__saved_model_init_op"
# The tag of the graph that servers load.
_SERVED = "serve"
_MOST_BYTES = 64 << 20


def facts_of_saved_model(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what the directory of a SavedModel holds, as plain values.

    Args:
        folder: of the model.

    Raises:
        ValueError: if a file in it is damaged.
        tf.errors.OpError: if the graph is damaged, or the certificate beside
            it is not its own.
    """
    graph = next(
        (
            each
            for each in read_saved_model(folder).meta_graphs
            if _SERVED in each.meta_info_def.tags
        ),
        None,
    )
    if graph is None:
        raise ValueError(
            f"{folder} must hold a graph with the tag {_SERVED!r}, as servers "
            "want it. Received: none."
        )
    files = [path for path in folder.rglob("*") if path.is_file()]
    origin = read_origin(folder)
    certification = read_certification(folder)
    facts: dict[str, Any] = {
        "kind": "SavedModel",
        "tensorflow_version": graph.meta_info_def.tensorflow_version,
        "signatures": {
            name: _signature_facts(signature)
            for name, signature in sorted(graph.signature_def.items())
            if name != _INITIALIZER
        },
        "bytes": sum(path.stat().st_size for path in files),
        "assets_extra": sorted(
            path.name for path in folder.glob(f"{EXTRA_ASSETS}/*")
        ),
        "pushed_from": origin and origin.model,
        "certificate": certification and certification.summary(),
    }
    if (folder / TUNED_INDEX).is_file():
        facts["tuned_index"] = facts_of_tuned_index(folder / TUNED_INDEX)
    if (folder / WARMUP_REQUESTS).is_file():
        facts["warm_up_shapes"] = _warm_up_shapes(folder)
    return facts


def _signature_facts(signature: meta_graph_pb2.SignatureDef) -> dict[str, Any]:
    return {
        "inputs": _tensor_facts(signature.inputs),
        "outputs": _tensor_facts(signature.outputs),
    }


def _tensor_facts(tensors: Any) -> dict[str, str]:
    return {
        name: f"{tf.as_dtype(info.dtype).name} {_shape_of(info.tensor_shape)}"
        for name, info in sorted(tensors.items())
    }


def _shape_of(shape: Any) -> str:
    if shape.unknown_rank:
        return "of any shape"
    sizes = [None if each.size < 0 else each.size for each in shape.dim]
    return str(sizes)


def _warm_up_shapes(folder: pathlib.Path) -> dict[str, list[str]]:
    """Returns the shapes that a server warms up, by signature and input."""
    try:
        from keras_moe.serving.versions._warmup_requests import (
            read_warmup_requests,
        )
    except ModuleNotFoundError as error:
        raise ImportError(
            f"To read warm-up requests needs the module {error.name!r}. "
            "Install it with `pip install keras-moe[serving]`."
        ) from error
    shapes: dict[str, list[str]] = {}
    for signature, inputs in read_warmup_requests(folder, _MOST_BYTES):
        for name, value in inputs.items():
            found = shapes.setdefault(f"{signature}({name})", [])
            if (shape := str(list(value.shape))) not in found:
                found.append(shape)
    return shapes
