"""Keras's own checks of a layer, behind one function."""

from keras.src import testing


def run_layer_test(layer_cls, init_kwargs, **kwargs):
    """Runs building, calling, training, saving and mixed precision.

    A private module of Keras: here alone, so that one file breaks if it moves.
    """
    case = testing.TestCase()
    case.setUp()
    try:
        case.run_layer_test(layer_cls, init_kwargs, **kwargs)
    finally:
        case.doCleanups()
