"""Where a training on more examples goes on from."""

import keras
from tfx.dsl.io import fileio

from keras_moe.components import read_locally
from keras_moe.distillation import load_teacher
from keras_moe.models import Cascade
from keras_moe.weights import transfer


def start_from(model: keras.Model, base: str | None) -> bool:
    """Gives a new model the weights of an earlier one of the same shape.

    Args:
        model: Built or not; it is built here.
        base: The directory of the earlier model, or `None`. Of a cascade, its
            student.

    Returns:
        Whether it did. It does not where there is no earlier model, or one of
        another configuration.

    Raises:
        ValueError: If weights of the two differ in name, shape or dtype though
            the configurations are equal.
    """
    if not base or not fileio.isdir(base):
        return False
    with read_locally(base) as directory:
        earlier = load_teacher(directory)
    if isinstance(earlier, Cascade):
        earlier = earlier.stages[0]  # the student
    if earlier.config.to_dict() != model.config.to_dict():
        return False
    if not model.built:
        model.build()
    transfer(earlier, model, use_all=True)
    return True
