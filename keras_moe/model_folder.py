"""The names of the files in the folder of an exported model.

Trainers, teachers, servers and pipelines read and write these files. The names
are the lowest floor of the library, so that all of them can.
"""

import os
import pathlib

# TensorFlow's own names. A folder with one of the first two is a SavedModel.
SAVED_MODEL = "saved_model.pb"
SAVED_MODEL_TEXT = "saved_model.pbtxt"
VARIABLES_INDEX = pathlib.PurePosixPath("variables", "variables.index")
# Files beside the graph, which the loader of SavedModels passes by.
EXTRA_ASSETS = "assets.extra"
# The Keras model that was exported: later trainings go on from it.
KERAS_MODEL = pathlib.PurePosixPath(EXTRA_ASSETS, "model.keras")
# The guarantee for the early-exit threshold that is served.
CERTIFICATE = pathlib.PurePosixPath(EXTRA_ASSETS, "certificate.json")
# The recall of the index that is served, and what it is tuned to.
TUNED_INDEX = pathlib.PurePosixPath(EXTRA_ASSETS, "tuned_index.json")
# The identity of the model that a version was pushed from.
ORIGIN = pathlib.PurePosixPath(EXTRA_ASSETS, "pushed_from.json")
# Words and pictures of the page on which people try a model.
PAGE = pathlib.PurePosixPath(EXTRA_ASSETS, "page.json")
# Requests that a server replays before it serves the model.
WARMUP_REQUESTS = pathlib.PurePosixPath(
    EXTRA_ASSETS, "tf_serving_warmup_requests"
)


def is_saved_model(folder: str | os.PathLike) -> bool:
    """Tells whether a local folder is a SavedModel.

    Args:
        folder: the model's, such as `models/mine/1`.

    Example:

    >>> from keras_moe.model_folder import is_saved_model
    >>> is_saved_model(directory)
    False
    """
    return any(
        pathlib.Path(folder, name).is_file()
        for name in (SAVED_MODEL, SAVED_MODEL_TEXT)
    )
