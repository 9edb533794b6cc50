"""The metrics that a layer holds itself."""

import keras

from keras_moe.keras_internals import sublayers


def own_metrics(layer: keras.layers.Layer) -> list[keras.metrics.Metric]:
    """Returns the metrics of a layer, without its sublayers'.

    `Layer.metrics` lists those of all layers below, too, and a model lists
    `Layer.metrics` of each layer in it: a metric would come once for each layer
    that it lies in. What a layer keeps and does not report is among them.

    Args:
        layer: any.
    """
    below = {
        id(metric) for child in sublayers(layer) for metric in child.metrics
    }
    listed = keras.layers.Layer.metrics.fget(layer)
    return [metric for metric in listed if id(metric) not in below]
