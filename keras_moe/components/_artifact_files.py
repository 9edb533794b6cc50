"""The files of artifacts, wherever TFX keeps them.

TFX and TensorFlow read and write `gs://bucket/x` themselves. `open`, Keras and
Matplotlib know this machine's files alone, and `pathlib` makes a local folder
`gs:/bucket/x` of it, silently.
"""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator

import keras
from tfx import types
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils
from tfx.utils import path_utils

from keras_moe.model_folder import KERAS_MODEL
from keras_moe.serving.versions._version_folders import is_remote


@contextlib.contextmanager
def read_locally(uri: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives the path at which local code reads an artifact's files.

    A local path is given as it is, whether or not it exists. Remote files are
    downloaded to a temporary directory, which is removed after the block.

    Example:

    >>> with keras_moe.components.written_locally(directory) as folder:
    ...     (folder / "card.md").write_text("A small model.")
    14
    >>> with keras_moe.components.read_locally(directory) as folder:
    ...     print((folder / "card.md").read_text())
    A small model.

    Args:
        uri: of a file or of a directory.

    Yields:
        The path of the file or of the directory.

    Raises:
        FileNotFoundError: if it is remote, and there is nothing.
    """
    uri = os.fspath(uri)
    if not is_remote(uri):
        yield pathlib.Path(uri)
        return
    if not fileio.exists(uri):
        raise FileNotFoundError(
            "`uri` must be that of a file or directory which exists. "
            f"Received: uri={uri!r}."
        )
    with tempfile.TemporaryDirectory() as folder:
        local = _inside(folder, uri)
        if fileio.isdir(uri):
            copy_tree(uri, local)
        else:
            fileio.copy(uri, str(local))
        yield local


@contextlib.contextmanager
def written_locally(uri: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives the directory to which local code writes an artifact's files.

    A local directory is made if it is missing, as it is in a cluster. For a
    remote one, the block writes to an empty temporary directory, whose files
    are uploaded when the block ends. As in a local directory, they replace
    files of the same name and leave others. If the block raises, nothing is
    uploaded. If the upload fails, some files may be there already; TFX
    publishes no artifact of a component that failed.

    Example:

    >>> with keras_moe.components.written_locally(directory) as folder:
    ...     (folder / "card.md").write_text("A small model.")
    14

    Args:
        uri: of a directory.

    Yields:
        The directory.
    """
    uri = os.fspath(uri)
    if not is_remote(uri):
        local = pathlib.Path(uri)
        local.mkdir(parents=True, exist_ok=True)
        yield local
        return
    with tempfile.TemporaryDirectory() as folder:
        local = _inside(folder, uri)
        local.mkdir()
        yield local
        copy_tree(local, uri)


def copy_tree(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    leave_out: Collection[str] = (),
) -> None:
    """Copies a directory between any two stores that TFX reaches.

    In contrast to TFX's `copy_dir`, it removes nothing.

    Args:
        source: the directory.
        destination: where its files go; made if it is missing.
        leave_out: files, relative to the source.
    """
    source = os.fspath(source).rstrip("/")
    destination = os.fspath(destination).rstrip("/")
    for folder, _, names in fileio.walk(source):
        # Some stores end the names of directories with a slash.
        inside = folder[len(source) :].strip("/")
        target = os.path.join(destination, inside) if inside else destination
        fileio.makedirs(target)
        for name in names:
            if os.path.join(inside, name) not in leave_out:
                fileio.copy(
                    os.path.join(folder, name),
                    os.path.join(target, name),
                    overwrite=True,
                )


def split_patterns(
    examples: list[types.Artifact], splits: Iterable[str]
) -> list[str]:
    """Returns patterns of the files of some splits, in the order of these.

    Args:
        examples: of an input.
        splits: their names.
    """
    return [
        io_utils.all_files_pattern(uri)
        for split in splits
        for uri in artifact_utils.get_split_uris(examples, split)
    ]


def load_keras_model(model: list[types.Artifact]) -> keras.Model:
    """Loads the Keras model that lies beside an artifact's SavedModel.

    Args:
        model: the one `Model` artifact of an input.

    Raises:
        FileNotFoundError: if there is none.
    """
    uri = artifact_utils.get_single_uri(model)
    path = os.path.join(path_utils.serving_model_path(uri), KERAS_MODEL)
    if not fileio.exists(path):
        raise FileNotFoundError(
            f"The model must hold its Keras model as {KERAS_MODEL}, beside "
            f"the SavedModel. There is no {path}."
        )
    with read_locally(path) as local:
        return keras.saving.load_model(local, compile=False)


def _inside(folder: str, uri: str) -> pathlib.Path:
    """Returns a path of the same last name: suffixes tell kinds of files."""
    return pathlib.Path(folder, os.path.basename(uri.rstrip("/")))
