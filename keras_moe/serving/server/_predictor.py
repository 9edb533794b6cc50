"""What answers a request to predict, by whichever way it came."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from tensorflow_serving.apis import model_pb2

from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.server._batcher import Batcher
from keras_moe.serving.server._call import Call
from keras_moe.serving.server._model_watcher import ModelWatcher
from keras_moe.serving.server._request_log import RequestLog
from keras_moe.serving.server._server_metrics import ServerMetrics

# As `serving.export` names it.
_EXITS = "exit_layer"


class Prediction(NamedTuple):
    """An answer.

    Attributes:
        version: the version that gave it.
        signature_name: the signature that was run.
        outputs: output name to array.
    """

    version: int
    signature_name: str
    outputs: dict[str, np.ndarray]


class Predictor:
    """Runs a signature of the version that a request means.

    Args:
        watcher: knows the versions.
        metrics: counts exits.
        batcher: joins requests; `None` runs each by itself.
        request_log: samples requests; `None` writes nothing down.
    """

    def __init__(
        self,
        watcher: ModelWatcher,
        metrics: ServerMetrics,
        batcher: Batcher | None = None,
        request_log: RequestLog | None = None,
    ):
        self._watcher = watcher
        self._metrics = metrics
        self._batcher = batcher
        self._log = request_log

    def predict(
        self,
        call: Call,
        spec: model_pb2.ModelSpec,
        decode: Callable[[Signature], Mapping[str, np.ndarray]],
        output_filter: Iterable[str] = (),
    ) -> Prediction:
        """Answers a request.

        Args:
            call: is told the version.
            spec: names the model, the version or label, and the signature.
            decode: makes the inputs of the request, for a signature.
            output_filter: outputs to give; empty means all.

        Raises:
            tf.errors.OpError: with the code to answer.
        """
        with self._watcher.lease(
            spec.name, *requested_version(spec)
        ) as servable:
            call.version = servable.version
            signature = servable.signature(spec.signature_name)
            inputs = decode(signature)
            outputs = servable.predict(
                inputs, signature.name, output_filter, self._batcher
            )
        if _EXITS in outputs and outputs[_EXITS].dtype.kind == "i":
            self._metrics.count_exits(servable.version, outputs[_EXITS])
        if self._log is not None:
            self._log.sample(
                spec.name, servable.version, signature.name, inputs, outputs
            )
        return Prediction(servable.version, signature.name, outputs)


def requested_version(spec: model_pb2.ModelSpec) -> tuple[int | None, str]:
    """Reads the version and the label that a request asks for.

    Returns:
        The version, or `None`, and the label, or nothing; without either the
        newest version is meant.
    """
    if spec.WhichOneof("version_choice") == "version_label":
        return None, spec.version_label
    if spec.HasField("version"):
        return spec.version.value, ""
    return None, ""
