"""What is known while a graph is traced."""

import keras


def shapes_must_be_static() -> bool:
    """Whether the code being traced will be compiled for static shapes.

    True under XLA (`jit_compile=True`, TPUs) and on backends that have nothing
    else. XLA does have bounded dynamic shapes, but they save nothing (it
    computes up to the bound) and fail where one depends on another.
    """
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)


def accelerator() -> str:
    """Returns `"TPU"`, `"GPU"` or `"CPU"`: what the layers will run on."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend().upper()
    import tensorflow as tf

    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return "TPU"
    return "GPU" if tf.config.list_physical_devices("GPU") else "CPU"


def num_replicas() -> int:
    """Returns how many replicas of `tf.distribute` train in step."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
