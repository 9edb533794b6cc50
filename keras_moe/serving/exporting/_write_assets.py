"""Files beside a graph, written by functions that know local paths alone."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import tensorflow as tf


def write_assets(
    assets: Mapping[str, Callable[[pathlib.Path], Any]], folder: str
) -> None:
    """Writes files that lie beside a graph.

    Args:
        assets: name of each to the function that writes it to a path.
        folder: where they go, here or in a remote store.

    Raises:
        ValueError: if a function writes no file.
    """
    if assets:
        tf.io.gfile.makedirs(folder)
    for name, write in assets.items():
        # Functions such as `model.save` know local files alone.
        with tempfile.TemporaryDirectory() as local:
            path = pathlib.Path(local, name)
            write(path)
            if not path.is_file():
                raise ValueError(
                    f"`assets[{name!r}]` must write a file to the path that it "
                    "is given. Received: a function that wrote none."
                )
            tf.io.gfile.copy(str(path), os.path.join(folder, name))
