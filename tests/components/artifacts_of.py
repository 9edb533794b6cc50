"""Artifacts with a place, as executors are given them."""

from tfx.dsl.io import fileio
from tfx.types import artifact_utils


def artifact(kind, uri, splits=None, **properties):
    """Returns an artifact of a kind in an existing directory."""
    made = kind()
    made.uri = str(uri)
    fileio.makedirs(made.uri)
    if splits is not None:
        made.split_names = artifact_utils.encode_split_names(list(splits))
    for name, value in properties.items():
        if isinstance(value, int):
            made.set_int_custom_property(name, value)
        else:
            made.set_string_custom_property(name, value)
    return made
