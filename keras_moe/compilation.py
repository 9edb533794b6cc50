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
