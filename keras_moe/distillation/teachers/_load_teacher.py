"""A teacher loaded from a file or directory."""

import pathlib
from typing import Any

import keras
import tensorflow as tf

from keras_moe.model_folder import KERAS_MODEL
from keras_moe.model_folder import is_saved_model
from keras_moe.types import Tensor


def load_teacher(
    path: str | pathlib.Path,
    signature: str = "serving_default",
    output: str | None = None,
) -> keras.Model:
    """Loads a frozen teacher.

    Args:
        path: a `.keras` file; a SavedModel with such a file as
            `assets.extra/model.keras`, as the pipeline's trainer writes it; or
            a SavedModel with a signature that gives logits, from any library.
        signature: for the last: name of the signature.
        output: for the last: name of its output; `None` if there is one only.

    Returns:
        A model that is not trainable. One made from a signature takes a
        dictionary of the signature's inputs, or one tensor if there is one
        input.

    Raises:
        ValueError: if there is no such file or directory, or it has no such
            signature or output.

    Example:

    >>> model = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    >>> model.save(f"{directory}.keras")
    >>> teacher = keras_moe.distillation.load_teacher(f"{directory}.keras")
    >>> teacher(np.ones([2, 4])).shape, teacher.trainable
    (TensorShape([2, 3]), False)
    """
    path = pathlib.Path(path)
    if path.is_file():
        teacher = keras.saving.load_model(path, compile=False)
    elif (path / KERAS_MODEL).is_file():
        teacher = keras.saving.load_model(path / KERAS_MODEL, compile=False)
    elif is_saved_model(path):
        teacher = _SignatureModel(path, signature, output)
    else:
        raise ValueError(
            "`path` must be a .keras file or the directory of a SavedModel "
            f"(the version's, which holds saved_model.pb). Received: {path}."
        )
    teacher.trainable = False
    return teacher


class _SignatureModel(keras.Model):
    """A signature of a SavedModel, called as a model is."""

    def __init__(self, path: pathlib.Path, signature: str, output: str | None):
        super().__init__(name="teacher", dtype="float32", autocast=False)
        loaded = tf.saved_model.load(str(path))
        if signature not in loaded.signatures:
            raise ValueError(
                f"The SavedModel must have the signature {signature!r}. "
                f"Received: {path} with {sorted(loaded.signatures) or 'none'}. "
                f"A teacher can also be given as a file {KERAS_MODEL} in it."
            )
        # The loaded object must live as long as its function: TensorFlow holds
        # the variables by it alone.
        self._loaded = loaded
        self._function = loaded.signatures[signature]
        self._inputs = self._function.structured_input_signature[1]
        outputs = sorted(self._function.structured_outputs)
        if output is None and len(outputs) == 1:
            (output,) = outputs
        if output not in outputs:
            raise ValueError(
                f"`output` must name an output of {signature!r}. Received: "
                f"output={output!r}, and the signature has {outputs}."
            )
        self._output = output
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        if not isinstance(inputs, dict):
            if len(self._inputs) != 1:
                raise ValueError(
                    "The teacher's signature takes several inputs: a "
                    f"dictionary of {sorted(self._inputs)}. Received: "
                    f"{type(inputs).__name__}."
                )
            inputs = {next(iter(self._inputs)): inputs}
        missing = sorted(set(self._inputs) - set(inputs))
        if missing:
            raise ValueError(
                f"The teacher's signature takes {sorted(self._inputs)}. "
                f"Received inputs without {missing}."
            )
        cast = {
            name: tf.cast(inputs[name], spec.dtype)
            for name, spec in self._inputs.items()
        }
        return self._function(**cast)[self._output]
