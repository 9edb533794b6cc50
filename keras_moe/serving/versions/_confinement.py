"""Keeps a version from having the server read files outside the model base."""

import pathlib

import tensorflow as tf

from keras_moe.serving.versions._version_bundle import read_saved_model


def check_links(path: pathlib.Path, base_path: pathlib.Path) -> None:
    """Refuses a version that is, or holds, a link out of the model base.

    Args:
        path: folder of the version.
        base_path: folder of the versions; it may itself be a link.

    Raises:
        tf.errors.PermissionDeniedError: the message names the link.
    """
    base = base_path.resolve()
    # The folder itself comes first: one that lies outside is not even listed.
    _check_inside(path, base)
    for entry in path.rglob("*"):
        if entry.is_symlink():
            _check_inside(entry, base)


def check_assets(path: pathlib.Path) -> None:
    """Refuses a SavedModel that has the loader read files of others.

    Args:
        path: folder of the version.

    Raises:
        tf.errors.PermissionDeniedError: an asset is not inside its folder.
        tf.errors.DataLossError: its `saved_model.pb` cannot be read.
    """
    for name in _asset_names(path):
        parts = pathlib.PurePath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise tf.errors.PermissionDeniedError(
                None,
                None,
                f"{path} names the asset {name!r}, which is not inside its "
                "`assets` folder.",
            )


def _check_inside(path: pathlib.Path, base: pathlib.Path) -> None:
    try:
        real = path.resolve()
    except RuntimeError as error:  # a loop of links
        raise tf.errors.PermissionDeniedError(
            None, None, f"{path} is a link to nothing: {error}"
        ) from error
    if real != base and base not in real.parents:
        raise tf.errors.PermissionDeniedError(
            None,
            None,
            f"{path} leads out of the model base {base}, to {real}. Copy the "
            "model instead of linking it.",
        )


def _asset_names(path: pathlib.Path) -> list[str]:
    return [
        asset.filename
        for meta_graph in read_saved_model(path).meta_graphs
        for asset in meta_graph.asset_file_def
    ]
