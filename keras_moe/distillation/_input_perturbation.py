"""Perturbed inputs, which teacher and student both read in training."""

import functools
import inspect
from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import keras
from keras import ops

from keras_moe.distillation._batch import own_inputs
from keras_moe.distillation._checks import shapes_fit
from keras_moe.distillation.teachers._cached_teacher import CachedTeacher
from keras_moe.types import Tensor

InputPerturbation: TypeAlias = Callable[[Any], Any]


def make_perturbation(
    perturbation: InputPerturbation, teacher: keras.Model
) -> Callable[[Any], Any]:
    """Returns a function from the inputs of a batch to perturbed ones.

    Names that no model reads, such as `"labelled"`, stay as they are and are
    not shown to the perturbation.

    Args:
        perturbation: a function of inputs, or a Keras layer, which is then
            called with `training=True`.
        teacher: the teacher.

    Raises:
        ValueError: if the perturbation cannot be called, or the teacher's
            logits are cached; by the function that is returned, if perturbed
            inputs have another structure, shape or dtype.
    """
    if not callable(perturbation) or isinstance(perturbation, type):
        raise ValueError(
            "`input_perturbation` must be a function from inputs to inputs, or "
            "a layer, not its class. "
            f"Received: input_perturbation={perturbation!r}."
        )
    if isinstance(teacher, CachedTeacher):
        raise ValueError(
            "`input_perturbation` needs a teacher that reads the perturbed "
            "inputs; a `CachedTeacher` gives the logits of the inputs as they "
            f"were. Received: teacher={teacher.name}."
        )
    if isinstance(perturbation, keras.layers.Layer):
        parameters = inspect.signature(perturbation.call).parameters
        if "training" in parameters:
            # Called by itself, a layer such as `GaussianNoise` takes
            # `training` for false and changes nothing.
            perturbation = functools.partial(perturbation, training=True)

    def perturb(inputs: Any) -> Any:
        given = keras.tree.map_structure(_to_tensor, own_inputs(inputs))
        # A copy of the containers: the check needs `given` as it was.
        copied = keras.tree.map_structure(lambda leaf: leaf, given)
        perturbed = perturbation(copied)
        perturbed = keras.tree.map_structure(_to_tensor, perturbed)
        _check_alike(perturbed, given)
        leaves = keras.tree.flatten(perturbed)
        perturbed = keras.tree.pack_sequence_as(given, leaves)
        return (
            {**inputs, **perturbed} if isinstance(inputs, dict) else perturbed
        )

    return perturb


def _to_tensor(leaf: Any) -> Tensor | None:
    return None if leaf is None else ops.convert_to_tensor(leaf)


def _check_alike(perturbed: Any, given: Any) -> None:
    # `fit` hands a list of inputs on as a tuple: a perturbation may return
    # either.
    perturbed, given = map(keras.tree.lists_to_tuples, (perturbed, given))
    try:
        keras.tree.assert_same_structure(perturbed, given)
        alike = keras.tree.map_structure(_are_alike, perturbed, given)
    except (TypeError, ValueError):
        alike = False
    if not all(keras.tree.flatten(alike)):
        described, wanted = (
            keras.tree.map_structure(_describe, inputs)
            for inputs in (perturbed, given)
        )
        raise ValueError(
            "`input_perturbation` must return inputs of the structure, shapes "
            f"and dtypes that it is given: {wanted}. Received: {described}."
        )


def _are_alike(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return (
        keras.backend.standardize_dtype(one.dtype)
        == keras.backend.standardize_dtype(other.dtype)
    ) and shapes_fit(one.shape, other.shape)


def _describe(leaf: Tensor | None) -> str:
    if leaf is None:
        return "None"
    dtype = keras.backend.standardize_dtype(leaf.dtype)
    return f"{dtype} {tuple(leaf.shape)}"
