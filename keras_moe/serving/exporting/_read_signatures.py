"""The signatures of a SavedModel in a local folder."""

import pathlib

from keras_moe.model_folder import is_saved_model
from keras_moe.serving.protocol._signature import Signature
from keras_moe.serving.protocol._signature import read_signatures
from keras_moe.serving.versions._version_bundle import read_saved_model


def read_model_signatures(directory: pathlib.Path) -> dict[str, Signature]:
    """Reads the signatures of a model that was exported.

    Args:
        directory: the argument `export_directory` of a public function.

    Raises:
        ValueError: there is no SavedModel, or none for serving.
    """
    if not is_saved_model(directory):
        raise ValueError(
            "`export_directory` must be the folder of a SavedModel. "
            f"Received: export_directory={str(directory)!r}, which has no "
            "saved_model.pb"
        )
    model = read_saved_model(directory)
    for meta_graph in model.meta_graphs:
        if "serve" in meta_graph.meta_info_def.tags:
            return read_signatures(meta_graph.signature_def)
    raise ValueError(
        "`export_directory` must hold a SavedModel tagged 'serve'. "
        f"Received: export_directory={str(directory)!r}"
    )
