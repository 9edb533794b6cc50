"""What a model server answers, whichever way a question comes."""

import functools
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

from keras_moe.serving.protocol import _status_codes as status_codes
from keras_moe.serving.protocol._model_spec import ModelSpec
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.protocol._version_state import VersionState
from keras_moe.serving.server._batcher import Batcher
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._model_watcher import ModelWatcher
from keras_moe.serving.server._request_log import RequestLog
from keras_moe.serving.server._servable import Servable
from keras_moe.serving.server._server_metrics import ServerMetrics
from keras_moe.serving.versions._certification import Certification
from keras_moe.serving.versions._page import Page

# The outputs of a model that exits early, and of a cascade.
_EXITS = "exit_layer"
_STAGES = "stage"


class _Prediction(NamedTuple):
    version: int
    signature_name: str
    outputs: dict[str, np.ndarray]


class _Metadata(NamedTuple):
    version: int
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]
    certification: Certification | None


class ModelApi:
    """Answers requests, without knowing the transport that carries them.

    gRPC and REST decode what arrives, ask here, and encode the answer. Errors
    are TensorFlow's, whose codes both transports know how to report.

    Args:
        watcher: knows the versions.
        metrics: counts exits and deferred rows, once for each request that was
            answered, whatever outputs it asked for.
        batcher: joins requests; `None` runs each by itself.
        request_log: samples requests; `None` writes nothing down.
        workers: requests that run at a time, of all transports together: one
            with more threads must not crowd out the other, nor the version
            that is being loaded.
    """

    def __init__(
        self,
        watcher: ModelWatcher,
        metrics: ServerMetrics,
        batcher: Batcher | None = None,
        request_log: RequestLog | None = None,
        workers: int = 4,
    ):
        self._running = threading.BoundedSemaphore(workers)
        self._watcher = watcher
        self._metrics = metrics
        self._batcher = batcher
        self._log = request_log

    @property
    def is_available(self) -> bool:
        """Whether a version answers."""
        return self._watcher.live is not None

    def predict(
        self,
        call: Call,
        spec: ModelSpec,
        signature_name: str,
        decode: Callable[[Signature], Mapping[str, np.ndarray]],
        output_filter: Iterable[str] = (),
    ) -> _Prediction:
        """Runs a signature of the version that a request means.

        Args:
            call: is told the version, also where running it fails, and what
                to count when it is answered.
            spec: names the model, and the version or label.
            signature_name: the signature; empty means `serving_default`.
            decode: makes the inputs of the request, for a signature.
            output_filter: outputs to give; empty means all.

        Returns:
            The `version` that answered, the `signature_name` that was run, and
            its `outputs`, name to array.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        every: dict[str, np.ndarray] = {}
        with self._watcher.lease(spec) as servable:
            call.version = servable.version
            signature = servable.signature(signature_name)
            with self._running:
                inputs = decode(signature)
                outputs = servable.run(
                    inputs,
                    signature.name,
                    output_filter,
                    self._batcher,
                    look=every.update,
                )
        call.when_answered = functools.partial(self._count, servable, every)
        if self._log is not None:
            self._log.sample(
                spec.name, servable.version, signature.name, inputs, outputs
            )
        return _Prediction(servable.version, signature.name, outputs)

    def _count(
        self, servable: Servable, outputs: Mapping[str, np.ndarray]
    ) -> None:
        exits, stages = outputs.get(_EXITS), outputs.get(_STAGES)
        if exits is not None and exits.dtype.kind == "i":
            self._metrics.count_exits(servable.version, exits)
        # Another model's output of that name is hardly one number a row.
        if stages is not None and stages.dtype.kind == "i" and stages.ndim == 1:
            certification = servable.certification
            self._metrics.count_stages(
                servable.version,
                stages,
                certification and certification.deferral,
            )

    def metadata(self, spec: ModelSpec) -> _Metadata:
        """Describes the version that a request means.

        Args:
            spec: names the model, and the version or label.

        Returns:
            The version, its signatures as the SavedModel stores them, and what
            is guaranteed of its early exits.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        with self._watcher.lease(spec) as servable:
            return _metadata_of(servable)

    def page(self, version: int | None = None) -> tuple[_Metadata, Page | None]:
        """Describes the model to the page on which people try it.

        Args:
            version: a version; `None` means the newest.

        Returns:
            The metadata of the version, and what its page says.

        Raises:
            tf.errors.NotFoundError: it is not being served.
        """
        with self._watcher.lease(ModelSpec(self.model_name, version)) as served:
            return _metadata_of(served), served.page

    @property
    def model_name(self) -> str:
        """The name that requests give."""
        return self._watcher.model_name

    def status(self, spec: ModelSpec) -> dict[int, VersionState]:
        """Gives the state of every version seen, or of the one asked for.

        Args:
            spec: names the model, and perhaps a version or label.

        Returns:
            Version to state, the newest version first.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        states = {}
        if spec.name == self._watcher.model_name:
            states = self._watcher.states()
        version = self._watcher.resolve(spec)
        if version is not None:
            if version not in states:
                raise status_codes.not_found(
                    f"Could not find version {version} of model {spec.name}"
                )
            states = {version: states[version]}
        if not states:
            raise status_codes.not_found(
                f"Could not find any versions of model {spec.name}"
            )
        return states


def _metadata_of(servable: Servable) -> _Metadata:
    return _Metadata(
        servable.version, servable.signature_defs, servable.certification
    )
