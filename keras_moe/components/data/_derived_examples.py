"""Examples that are made of others, split by split."""

from collections.abc import Collection

from tfx import types
from tfx.types import artifact_utils

from keras_moe.components._artifact_files import copy_tree


def name_splits(
    examples: list[types.Artifact], made: types.Artifact
) -> dict[str, str]:
    """Gives an artifact the splits of another, and says how it is read.

    Args:
        examples: the one artifact that it is made of.
        made: the artifact.

    Returns:
        The folder of each split.
    """
    given = artifact_utils.get_single_instance(examples)
    made.split_names = given.split_names
    # How records are written: TFX's readers look here.
    for name in ("payload_format", "file_format"):
        if value := given.get_string_custom_property(name):
            made.set_string_custom_property(name, value)
    return {
        split: artifact_utils.get_split_uri([made], split)
        for split in artifact_utils.decode_split_names(given.split_names)
    }


def copy_splits(
    examples: list[types.Artifact],
    folders: dict[str, str],
    leave_out: Collection[str],
) -> None:
    """Copies splits as they are.

    Args:
        examples: the one artifact that they are of.
        folders: of each split, where it goes.
        leave_out: splits that are made anew.
    """
    for split, folder in folders.items():
        if split not in leave_out:
            copy_tree(artifact_utils.get_split_uri(examples, split), folder)
