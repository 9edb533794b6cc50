"""A sample of the requests and answers, in files to look at later."""

import contextlib
import datetime
import logging
import os
import pathlib
import queue
import random
import threading
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_moe.atomic_file import atomic_file
from keras_moe.serving.protocol import _tensor_codec as tensor_codec

_LOG = logging.getLogger(__name__)
_MAX_WAITING = 1024


class RequestLog:
    """Writes a sample of what was asked and answered.

    Records are TensorFlow Serving's, `PredictionLog` in TFRecord files, so a
    finished file can be a server's warm-up requests or the examples of a test.
    A file appears under its name when it is full, old enough, or the server
    stops; until then its name begins with a dot. Requests never wait for the
    disk: what it cannot take is dropped and counted.

    Args:
        directory: where to write; made if it is missing. The log holds what
            users sent: keep it as they would want it kept.
        sampling_rate: share of the requests to write, in (0, 1].
        max_file_bytes: size at which a new file is begun.
        max_file_seconds: age at which a new file is begun.
        seed: of the sampling; `None` for another one each time.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    ```python
    log = keras_moe.serving.RequestLog("logs/my_model", sampling_rate=0.01)
    server = keras_moe.serving.Server(
        "my_model", "serving/my_model", request_log=log
    )
    ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        sampling_rate: float = 0.01,
        max_file_bytes: int = 64 << 20,
        max_file_seconds: float = 3600.0,
        seed: int | None = None,
    ):
        if not 0 < sampling_rate <= 1:
            raise ValueError(
                "`sampling_rate` must be in (0, 1]. "
                f"Received: sampling_rate={sampling_rate}"
            )
        if max_file_bytes < 1 or not max_file_seconds > 0:
            raise ValueError(
                "`max_file_bytes` and `max_file_seconds` must be positive. "
                f"Received: max_file_bytes={max_file_bytes}, "
                f"max_file_seconds={max_file_seconds}"
            )
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.sampling_rate = sampling_rate
        self._max_bytes = max_file_bytes
        self._max_seconds = max_file_seconds
        self._random = random.Random(seed)
        self._counting = threading.Lock()
        self._counts = {"written": 0, "dropped": 0}
        self._queue: queue.Queue[bytes | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(
            target=self._write_all, name="request-log", daemon=True
        )

    def start(self) -> None:
        """Starts to write, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what is waiting and finishes the file."""
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    def counts(self) -> dict[str, int]:
        """Gives how many sampled requests were `written` and `dropped`."""
        with self._counting:
            return dict(self._counts)

    def sample(
        self,
        model_name: str,
        version: int,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
    ) -> None:
        """Keeps a request and its answer, or passes them by.

        Args:
            model_name: the model that answered.
            version: its version.
            signature_name: its signature.
            inputs: input name to array.
            outputs: output name to array.
        """
        if self._random.random() >= self.sampling_rate:
            return
        if self._queue.full():
            self._count("dropped")
            return
        log = prediction_log_pb2.PredictionLog()
        log.log_metadata.sampling_config.sampling_rate = self.sampling_rate
        log.log_metadata.timestamp_secs = int(time.time())
        spec = log.log_metadata.model_spec
        spec.name, spec.signature_name = model_name, signature_name
        spec.version.value = version
        predict = log.predict_log
        predict.request.model_spec.CopyFrom(spec)
        predict.response.model_spec.CopyFrom(spec)
        for name, array in inputs.items():
            proto = tensor_codec.to_proto(array)
            predict.request.inputs[name].CopyFrom(proto)
        for name, array in outputs.items():
            proto = tensor_codec.to_proto(array)
            predict.response.outputs[name].CopyFrom(proto)
        try:
            self._queue.put_nowait(log.SerializeToString())
        except queue.Full:
            self._count("dropped")

    def _count(self, outcome: str) -> None:
        with self._counting:
            self._counts[outcome] += 1

    def _write_all(self) -> None:
        record = self._queue.get()
        while record is not None:
            try:
                record = self._write_file(record)
            except (OSError, tf.errors.OpError) as error:
                # A full disk, for one, costs records only: requests go on.
                _LOG.error("Could not write the request log: %s", error)
                self._count("dropped")
                record = self._queue.get()

    def _write_file(self, record: bytes | None) -> bytes | None:
        """Writes a file that begins with `record`; gives the next's first."""
        now = datetime.datetime.now(datetime.UTC)
        name = f"requests-{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}.tfrecord"
        end = time.monotonic() + self._max_seconds
        size = 0
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(atomic_file(self.directory / name))
            writer = stack.enter_context(tf.io.TFRecordWriter(str(partial)))
            while record is not None and size < self._max_bytes:
                writer.write(record)
                # A server may be killed: what was sampled must be in the file.
                writer.flush()
                self._count("written")
                size += len(record)
                try:
                    record = self._queue.get(
                        timeout=max(0.0, end - time.monotonic())
                    )
                except queue.Empty:
                    break
            else:
                return record
        return self._queue.get()
