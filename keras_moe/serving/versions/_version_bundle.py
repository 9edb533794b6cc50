"""What lies in the folder of a version.

The names of the files are those of `keras_moe.model_folder`.
"""

import os
import pathlib

import tensorflow as tf
from google.protobuf import message
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2

from keras_moe.model_folder import SAVED_MODEL
from keras_moe.model_folder import SAVED_MODEL_TEXT
from keras_moe.model_folder import VARIABLES_INDEX


def read_saved_model(folder: str | os.PathLike) -> saved_model_pb2.SavedModel:
    """Reads the description of a SavedModel, without loading it.

    Args:
        folder: of the version.

    Raises:
        tf.errors.DataLossError: the description is missing or damaged.
    """
    model = saved_model_pb2.SavedModel()
    folder = pathlib.Path(folder)
    try:
        if (folder / SAVED_MODEL).is_file():
            model.ParseFromString((folder / SAVED_MODEL).read_bytes())
        else:
            text_format.Parse((folder / SAVED_MODEL_TEXT).read_text(), model)
    except (
        *(message.DecodeError, text_format.ParseError),
        *(OSError, ValueError),
    ) as error:
        raise tf.errors.DataLossError(
            None, None, f"Could not read the SavedModel in {folder}: {error}"
        ) from error
    return model


def has_variables(folder: str | os.PathLike) -> bool:
    """Tells whether a version holds values of variables."""
    return pathlib.Path(folder, VARIABLES_INDEX).is_file()
