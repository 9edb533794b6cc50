"""From functions of any model to a SavedModel, whole or not there."""

import contextlib
import os
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from keras_moe.calibration import Certificate
from keras_moe.model_folder import CERTIFICATE
from keras_moe.model_folder import EXTRA_ASSETS
from keras_moe.model_folder import SAVED_MODEL
from keras_moe.model_folder import VARIABLES_INDEX
from keras_moe.model_folder import WARMUP_REQUESTS
from keras_moe.serving.exporting._check_endpoints import Endpoint
from keras_moe.serving.exporting._check_endpoints import WriteFn
from keras_moe.serving.exporting._check_endpoints import check_assets
from keras_moe.serving.exporting._check_endpoints import check_directory
from keras_moe.serving.exporting._check_endpoints import check_endpoints
from keras_moe.serving.exporting._check_endpoints import check_mappings
from keras_moe.serving.exporting._check_endpoints import checked_list
from keras_moe.serving.exporting._write_assets import write_assets
from keras_moe.serving.versions._certification import bind_certificate

_PYTHON_OPERATIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def export_endpoints(
    directory: str | os.PathLike[str],
    endpoints: Mapping[str, Endpoint],
    tracked: Iterable = (),
    assets: Mapping[str, WriteFn] | None = None,
    certificate: Certificate | None = None,
) -> None:
    """Writes functions as the signatures of a SavedModel.

    For any model: what embeds, what ranks, a cascade of two. A model that
    answers text with text has `keras_moe.serving.export`.

    Args:
        directory: where to write; must be new or empty. It appears under its
            name only when it is complete, and nothing is left where writing
            fails. (In a remote store it appears as the store renames.)
        endpoints: name of a signature to its function and the
            `tf.TensorSpec`s of its arguments, each with the name by which
            requests give it: ASCII, as Python names a variable, without an
            underscore in front. A function takes the tensors in this order,
            and returns a dictionary of tensors. Requests that name no
            signature mean `serving_default`; where there is none, the first of
            `endpoints` becomes it.
        tracked: models and other resources, such as lookup tables, that hold
            state of the functions. Variables of Keras models are found by
            themselves.
        assets: name of a file in `assets.extra` to the function that writes it
            to the path that it is given, such as `model.save`. Warm-up
            requests and the origin of a version have functions of their own.
        certificate: a `keras_moe.calibration.Certificate` of the model behind
            the functions, which are not compared with it: see
            `keras_moe.models.Cascade.check_certificate`. It is written to
            `assets.extra/certificate.json`; the graph names it by its digest,
            and a server refuses another in its place.

    Raises:
        ValueError: if `directory` is not new or empty, an argument or what a
            function returns is not as described, or what a function reads is
            not in `tracked`.

    Example:

    >>> model = keras.Sequential([keras.Input([4]), keras.layers.Dense(2)])
    >>> keras_moe.serving.export_endpoints(
    ...     directory,
    ...     {
    ...         "serving_default": (
    ...             lambda features: {"embedding": model(features)},
    ...             [tf.TensorSpec([None, 4], tf.float32, name="features")],
    ...         ),
    ...     },
    ... )
    >>> served = tf.saved_model.load(directory).signatures["serving_default"]
    >>> served(features=tf.ones([3, 4]))["embedding"].shape
    TensorShape([3, 2])
    """
    if not isinstance(certificate, Certificate | None):
        raise ValueError(
            "`certificate` must be a `keras_moe.calibration.Certificate`. "
            f"Received: certificate={certificate!r}."
        )
    if certificate is not None and CERTIFICATE.name in (assets or {}):
        raise ValueError(
            f"`assets` must leave {CERTIFICATE.name!r} to `certificate`."
        )
    write_endpoints(directory, endpoints, tracked, assets, certificate)


def write_endpoints(
    directory: str | os.PathLike[str],
    endpoints: Mapping[str, Endpoint],
    tracked: Iterable = (),
    assets: Mapping[str, WriteFn] | None = None,
    certificate: Certificate | None = None,
    write_warmup: WriteFn | None = None,
) -> None:
    """Writes as `export_endpoints` does.

    Args:
        directory: as of `export_endpoints`.
        endpoints: as of `export_endpoints`.
        tracked: as of `export_endpoints`.
        assets: as of `export_endpoints`; not the certificate.
        certificate: is written beside the graph, which names it.
        write_warmup: writes the requests that a server replays before it
            serves.
    """
    directory = os.fspath(directory)
    check_mappings(endpoints, assets)
    endpoints, assets = dict(endpoints), dict(assets or {})
    check_endpoints(endpoints)
    check_assets(assets)
    check_directory(directory)
    tracked = checked_list(tracked)
    archive = keras.export.ExportArchive()
    for resource in tracked:
        archive.track(resource)
    for name, (function, specs) in endpoints.items():
        archive.add_endpoint(
            name,
            _traced(_checked(name, function), specs),
            input_signature=list(specs),
        )
    partial = directory.rstrip("/") + ".partial"
    # An export that was killed may have left this folder.
    _remove(partial)
    try:
        _write_out(archive, partial)
        model = saved_model_pb2.SavedModel.FromString(
            _read(os.path.join(partial, SAVED_MODEL))
        )
        _check_portable(model)
        if certificate is not None:
            assets[CERTIFICATE.name] = certificate.save
            _bind(partial, model, certificate)
        if write_warmup is not None:
            assets[WARMUP_REQUESTS.name] = write_warmup
        write_assets(assets, os.path.join(partial, EXTRA_ASSETS))
        _remove(directory)
        tf.io.gfile.rename(partial, directory)
    except BaseException:
        # A clean-up that fails, too, must not hide what failed first.
        with contextlib.suppress(tf.errors.OpError):
            _remove(partial)
        raise


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets a function return nothing but a dictionary of tensors.

    TensorFlow would name what is in no dictionary `output_0`, and take an
    empty dictionary for an answer.
    """

    def answer(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = function(*tensors)
        if (
            not isinstance(outputs, Mapping)
            or not outputs
            or not all(isinstance(key, str) and key for key in outputs)
        ):
            raise ValueError(
                f"The function of `endpoints[{name!r}]` must return a "
                "dictionary of names to tensors. Received: "
                f"{outputs!r}."
            )
        return dict(outputs)

    return answer


def _traced(
    function: Callable[..., Any], specs: Sequence[tf.TensorSpec]
) -> Callable[..., Any]:
    """Traces a function once, which takes seconds where it decodes.

    Keras traces each endpoint to find its variables, and TensorFlow traces it
    again to write it.
    """
    graph = tf.function(
        function, input_signature=list(specs), autograph=False
    ).get_concrete_function()
    return lambda *tensors: graph(*tensors)


def _write_out(archive: keras.export.ExportArchive, folder: str) -> None:
    try:
        archive.write_out(folder, verbose=False)
    except AssertionError as error:
        if "untracked" not in str(error):
            raise
        raise ValueError(
            "What a function reads must be written with it: give its owner, "
            "such as a `TextVectorization` or a loaded tokeniser, in "
            f"`tracked=[...]`. Received: {_owner(error)}, which is not tracked."
        ) from error


def _owner(error: AssertionError) -> str:
    """Returns what TensorFlow names as the object that is not tracked."""
    named = re.search(r"Trackable referencing this tensor = (.*)", str(error))
    return named[1] if named else str(error)


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def _check_portable(model: saved_model_pb2.SavedModel) -> None:
    """Raises `ValueError` if the graph calls Python, which stays behind."""
    graphs = [meta_graph.graph_def for meta_graph in model.meta_graphs]
    functions = [f for graph in graphs for f in graph.library.function]
    nodes = [node for graph in graphs for node in graph.node]
    for node in nodes + [node for f in functions for node in f.node_def]:
        if node.op in _PYTHON_OPERATIONS:
            raise ValueError(
                "What is exported must not call Python: `tf.py_function` and "
                "`tf.numpy_function` know functions of this process alone, and "
                f"no server could answer. Received: {node.name!r}."
            )


def _bind(
    folder: str, model: saved_model_pb2.SavedModel, certificate: Certificate
) -> None:
    index = os.path.join(folder, VARIABLES_INDEX)
    bind_certificate(
        model, certificate, _read(index) if tf.io.gfile.exists(index) else b""
    )
    with tf.io.gfile.GFile(os.path.join(folder, SAVED_MODEL), "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
    # TensorFlow's fingerprint holds a checksum of the graph as it was.
    write_fingerprint(folder)


def _remove(directory: str) -> None:
    with contextlib.suppress(tf.errors.NotFoundError):
        tf.io.gfile.rmtree(directory)
