"""One loaded version of a model."""

import importlib
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from keras_moe.serving.protocol._runner import Runner
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.protocol._signature import read_signatures
from keras_moe.serving.server._batcher import Batcher
from keras_moe.serving.versions._certification import Certification
from keras_moe.serving.versions._certification import read_certification
from keras_moe.serving.versions._page import read_page
from keras_moe.serving.versions._version_bundle import has_variables
from keras_moe.serving.versions._warmup_requests import read_warmup_requests

_LOG = logging.getLogger(__name__)
_DEFAULT_SIGNATURE = "serving_default"
_VARIABLE_OPS = ("VarHandleOp", "VariableV2", "Variable")


class Servable:
    """A SavedModel in a session of its own, warmed up and ready.

    A version 1 session is used on purpose: it is what TensorFlow Serving
    runs, and its callables answer several times faster than the functions of
    `tf.saved_model.load`.

    Args:
        path: folder of the version, `.../NAME/VERSION`.
        version: its number.
        max_tensor_bytes: largest input that a warm-up request may hold.
        intra_op_threads: threads that share one operation of a request.

    Raises:
        tf.errors.OpError: the SavedModel is damaged, refuses one of its own
            warm-up requests, or has a certificate that is none or not its own.

    Attributes:
        certification: what is guaranteed of its early exits, or its cascade;
            `None` if nothing is.
        page: what the page on which people try it says; `None` if nothing.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        version: int,
        max_tensor_bytes: int = 64 << 20,
        intra_op_threads: int = 1,
    ):
        began = time.monotonic()
        self.path = pathlib.Path(path)
        self.version = version
        self.certification = read_certification(self.path)
        _log_certification(version, self.certification)
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(
            graph=graph, config=_session_config(intra_op_threads)
        )
        try:
            self._meta_graph = _load(self._session, graph, self.path)
            self.signatures = read_signatures(self.signature_defs)
            self.page = read_page(self.path, self.signatures)
            self._runners: dict[str, Runner] = {}
            self._making = threading.Lock()
            self.warmup_requests = self._warm_up(max_tensor_bytes)
            # The graph is optimised for each signature, which may take a
            # second. A request must not wait for that.
            for signature in self.signatures.values():
                self.runner(signature)
            _LOG.info(
                "Version %d was loaded in %.1f s, with %d warm-up requests",
                version,
                time.monotonic() - began,
                self.warmup_requests,
            )
        except BaseException:
            self._session.close()
            raise

    @property
    def signature_defs(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """Signatures as the SavedModel stores them."""
        return self._meta_graph.signature_def

    def signature(self, name: str = "") -> Signature:
        """Finds a signature; the empty name means `serving_default`.

        Raises:
            tf.errors.FailedPreconditionError: there is none of that name
                (the code that TensorFlow Serving answers with).
        """
        name = name or _DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise tf.errors.FailedPreconditionError(
                None,
                None,
                f'Serving signature key "{name}" not found. '
                f"The model has: {', '.join(sorted(self.signatures))}.",
            )
        return self.signatures[name]

    def runner(self, signature: Signature) -> Runner:
        """Gives the session's callable for a signature.

        It takes the inputs in the order of `signature.inputs` and returns the
        arrays of `signature.outputs`: all of them, since a callable is a graph
        of its own, and clients could ask for one of every choice of outputs.
        """
        runner = self._runners.get(signature.name)
        if runner is not None:
            return runner
        with self._making:
            # Another thread may have made it while this one waited.
            if signature.name not in self._runners:
                self._runners[signature.name] = self._make_runner(signature)
            return self._runners[signature.name]

    def _make_runner(self, signature: Signature) -> Runner:
        options = config_pb2.CallableOptions(
            feed=[spec.tensor_name for spec in signature.inputs.values()],
            fetch=[spec.tensor_name for spec in signature.outputs.values()],
        )
        # The public `make_callable` is `Session.run` under another name when it
        # has feeds, and several times slower.
        return self._session._make_callable_from_options(options)

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = "",
        output_filter: Iterable[str] = (),
        batcher: Batcher | None = None,
        look: Callable[[dict[str, np.ndarray]], None] = lambda outputs: None,
    ) -> dict[str, np.ndarray]:
        """Checks the inputs against a signature and runs it.

        Args:
            inputs: input name to array; strings are object arrays of `bytes`.
            signature_name: the signature; empty means `serving_default`.
            output_filter: outputs to return; empty means all.
            batcher: joins the request with others; `None` runs it by itself.
            look: called with all outputs, those that nobody asked for as well.

        Returns:
            Output name to array.
        """
        signature = self.signature(signature_name)
        inputs = signature.complete(inputs)
        wanted = signature.select_outputs(output_filter)
        runner = self.runner(signature)
        feeds = [inputs[name] for name in signature.inputs]
        try:
            if batcher is None:
                values = runner(*feeds)
            else:
                values = batcher.submit(runner, signature, feeds)
        except tf.errors.OpError as error:
            raise _without_stack(error) from None
        answers = {
            name: np.asarray(value, spec.dtype)
            for (name, spec), value in zip(
                signature.outputs.items(), values, strict=True
            )
        }
        look(answers)
        return {name: answers[name] for name in wanted}

    def close(self) -> None:
        """Frees the session."""
        self._runners.clear()
        self._session.close()

    def _warm_up(self, max_tensor_bytes: int) -> int:
        count = 0
        requests = read_warmup_requests(self.path, max_tensor_bytes)
        for name, inputs in requests:
            self.run(inputs, name)
            count += 1
        return count


def _log_certification(
    version: int, certification: Certification | None
) -> None:
    if certification is None:
        return
    certificate = certification.certificate
    _LOG.info(
        "Version %d is certified at the threshold %g: %s at most %g, with a "
        "confidence of %g",
        version,
        certificate.threshold,
        certification.bounds,
        certificate.tolerance,
        certificate.confidence_level,
    )
    if not certification.is_bound:
        _LOG.warning(
            "Version %d was exported by an earlier keras_moe: its graph names "
            "no certificate, and the one beside it may be of another model",
            version,
        )


def _session_config(intra_op_threads: int) -> config_pb2.ConfigProto:
    """Lets a request run in the thread that answers it.

    The work of a request is many small operations. Handing them to a pool
    costs more than it gains, and the pool's idle threads spin on the cores
    that the answer needs on its way out; requests that arrive together fill
    the cores anyway.
    """
    config = config_pb2.ConfigProto(
        use_per_session_threads=True,
        # A negative number makes the session run in the thread that calls it.
        inter_op_parallelism_threads=-1,
        intra_op_parallelism_threads=intra_op_threads,
    )
    config.experimental.disable_thread_spinning = True
    return config


def _load(
    session: tf.compat.v1.Session, graph: tf.Graph, path: pathlib.Path
) -> meta_graph_pb2.MetaGraphDef:
    # Loading is deprecated for training code, not for servers; the warning
    # would be printed at every new version.
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        meta_graph = _restore(session, graph, path)
    except tf.errors.OpError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise tf.errors.DataLossError(
            None, None, f"Could not load the SavedModel in {path}: {error}"
        ) from error
    finally:
        logger.setLevel(level)
    _require_variables(meta_graph, path)
    return meta_graph


def _restore(
    session: tf.compat.v1.Session,
    graph: tf.Graph,
    path: pathlib.Path,
    may_add_ops: bool = True,
) -> meta_graph_pb2.MetaGraphDef:
    try:
        with graph.as_default():
            return tf.compat.v1.saved_model.loader.load(
                session, ["serve"], str(path)
            )
    except Exception as error:
        # The stock server has TensorFlow Text's ops linked in.
        if "Op type not registered" not in str(error) or not may_add_ops:
            raise
        if not _add_text_ops():
            raise
    return _restore(session, graph, path, may_add_ops=False)


def _add_text_ops() -> bool:
    try:
        importlib.import_module("tensorflow_text")
    except ImportError:
        return False
    return True


def _require_variables(
    meta_graph: meta_graph_pb2.MetaGraphDef, path: pathlib.Path
) -> None:
    """Refuses a model whose weights are missing.

    The loader takes a SavedModel without a `variables` folder for one that
    has no variables, and only the first request would fail.
    """
    if has_variables(path):
        return
    if any(node.op in _VARIABLE_OPS for node in meta_graph.graph_def.node):
        raise tf.errors.NotFoundError(
            None, None, f"{path} has no variables/variables.index."
        )


def _without_stack(error: tf.errors.OpError) -> tf.errors.OpError:
    """Cuts the dump of the graph's construction off a session's error."""
    message = str(error.message)
    for marker in ("\n\t [[", "\nOriginal stack trace", "\nErrors may have"):
        message = message.split(marker)[0]
    return type(error)(None, None, message)
