"""Which devices train in step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras

from keras_moe.distribution._tf_config import read_tf_config
from keras_moe.validation import check_choice

if TYPE_CHECKING:
    import tensorflow as tf

KINDS = ("default", "mirrored", "multi_worker", "tpu")


def strategy(
    kind: str = "default",
    *,
    tpu: str | None = None,
    devices: Sequence[str] | None = None,
) -> "tf.distribute.Strategy":
    """Returns a strategy of `tf.distribute` for data parallelism.

    Models, optimizers and metrics are made under its `scope()`; then
    `keras_moe.training.Trainer` trains them. Keras's own `fit` works under
    `"default"` and `"mirrored"`; under `"multi_worker"` it does not (Keras
    3.15).

    Args:
        kind: `"default"`, the strategy that is in scope, which without any is
            one device; `"mirrored"`, the devices of this machine;
            `"multi_worker"`, the processes that the environment variable
            `TF_CONFIG` lists; `"tpu"`, the cores of a TPU. The last is
            untested on TPU hardware.
        tpu: for `"tpu"`: name or address of the TPU; by default the one of
            this machine.
        devices: for `"mirrored"`: names of devices, such as
            `["GPU:0", "GPU:1"]`; by default all GPUs.

    Raises:
        ValueError: if `kind` is none of these; if an argument belongs to
            another kind; if `TF_CONFIG` is missing or malformed.
        RuntimeError: on another backend than TensorFlow; for
            `"multi_worker"`, if TensorFlow has computed something before:
            make the strategy first thing in the program.

    Example:

    >>> strategy = keras_moe.distribution.strategy("default")
    >>> strategy.num_replicas_in_sync
    1
    """
    check_choice(KINDS, kind=kind)
    for name, value, owner in (
        ("tpu", tpu, "tpu"),
        ("devices", devices, "mirrored"),
    ):
        if value is not None and kind != owner:
            raise ValueError(
                f"`{name}` must be None unless kind={owner!r}. Received: "
                f"{name}={value!r}, kind={kind!r}."
            )
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            "`tf.distribute` works on Keras's TensorFlow backend alone; on "
            "JAX use `keras.distribution.DataParallel`. Received: "
            f"keras.backend.backend()={backend!r}."
        )
    import tensorflow as tf

    if kind == "mirrored":
        return tf.distribute.MirroredStrategy(
            None if devices is None else list(devices)
        )
    if kind == "multi_worker":
        return _multi_worker(tf)
    if kind == "tpu":
        return _tpu(tf, tpu)
    return tf.distribute.get_strategy()


def _multi_worker(tf: Any) -> Any:
    read_tf_config()
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        if "program startup" not in str(error):
            raise
        raise RuntimeError(
            "A strategy of several workers must be made before TensorFlow "
            "computes anything: make it first thing in the program, before "
            f"models and data. TensorFlow says: {error}"
        ) from error


def _tpu(tf: Any, name: str | None) -> Any:
    resolvers = tf.distribute.cluster_resolver
    try:
        resolver = resolvers.TPUClusterResolver.connect(name or "local")
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        raise RuntimeError(
            "No TPU was found. A machine with one needs the TensorFlow build "
            f"for TPUs. Received: tpu={name!r}. TensorFlow says: {error}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
