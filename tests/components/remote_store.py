"""A store that `pathlib` and `open` do not reach, and TFX and TensorFlow do."""

import contextlib
import copy
import os
import uuid

import tensorflow as tf
from tfx.dsl.io import fileio
from tfx.dsl.io import filesystem_registry
from tfx.dsl.io.plugins.tensorflow_gfile import TensorflowFilesystem
from tfx.utils import io_utils

_SCHEME = "ram://"


class RemoteStore(TensorflowFilesystem):
    """Files in TensorFlow's memory, with the ways of an object store.

    There is no renaming, a directory is what files have in front of their
    names, and its name ends with a slash where it is listed. Which files there
    are is known here, not in that memory: it appends to a file that is written
    anew, and lists in `a` what is in `a.b`.
    """

    SUPPORTED_SCHEMES = [_SCHEME]
    names: set[str] = set()

    @classmethod
    def open(cls, name, mode="r"):
        if "w" in mode:
            if name in cls.names:
                tf.io.gfile.remove(name)
            tf.io.gfile.makedirs(os.path.dirname(name))
            cls.names.add(name)
        return tf.io.gfile.GFile(name, mode)

    @classmethod
    def copy(cls, src, dst, overwrite=False):
        assert overwrite or dst not in cls.names
        with cls.open(src, "rb") as source, cls.open(dst, "wb") as target:
            target.write(source.read())

    @classmethod
    def exists(cls, path):
        return path in cls.names or cls.isdir(path)

    @classmethod
    def isdir(cls, path):
        folder = path.rstrip("/") + "/"
        return any(name.startswith(folder) for name in cls.names)

    @classmethod
    def listdir(cls, path):
        folder = path.rstrip("/") + "/"
        inside = [n[len(folder) :] for n in cls.names if n.startswith(folder)]
        heads = {head + slash for head, slash, _ in map(_split, inside)}
        return sorted(heads - {""})

    @classmethod
    def makedirs(cls, path):
        # As TensorFlow does for `gs://`: an empty object of that name.
        cls.names.add(path.rstrip("/") + "/")

    @classmethod
    def remove(cls, path):
        cls.names.remove(path)
        tf.io.gfile.remove(path)

    @classmethod
    def rename(cls, src, dst, overwrite=False):
        raise NotImplementedError(f"{src} cannot be renamed")

    @classmethod
    def rmtree(cls, path):
        folder = path.rstrip("/") + "/"
        for name in [n for n in cls.names if n.startswith(folder)]:
            if name.endswith("/"):
                cls.names.remove(name)
            else:
                cls.remove(name)

    @classmethod
    def walk(cls, top, topdown=True, onerror=None):
        """Yields `top`, then `top/folder/`, as TensorFlow does for `gs://`."""
        names = cls.listdir(top)
        folders = [name for name in names if name.endswith("/")]
        yield top, folders, [name for name in names if name not in folders]
        for folder in folders:
            yield from cls.walk(os.path.join(top, folder))


def _split(name):
    return name.partition("/")


@contextlib.contextmanager
def remote_store(monkeypatch, tmp_path):
    """Yields the URI of an empty directory, and checks what is left behind."""
    temporary, here = tmp_path / "temporary", tmp_path / "here"
    temporary.mkdir()
    here.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.chdir(here)
    registry = filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY
    registry.register(RemoteStore, priority=0)
    uri = f"{_SCHEME}{uuid.uuid4().hex}/store"
    try:
        yield uri
    finally:
        fileio.rmtree(uri)
        del registry._preferred_filesystem_by_scheme[_SCHEME]
        del registry._filesystem_priority[RemoteStore]
    left = [path.name for path in temporary.iterdir()]
    # TensorFlow's AutoGraph removes its own when the process ends, but for what
    # Python compiles of them.
    assert not [
        name
        for name in left
        if "autograph" not in name and name != "__pycache__"
    ], left
    # A local folder `ram:`, of a URI that was taken for a path.
    assert not list(here.iterdir())


def moved(artifact, uri):
    """Returns an artifact with the same files, in the store."""
    io_utils.copy_dir(artifact.uri, uri)
    result = copy.deepcopy(artifact)
    result.uri = uri
    return result


def files(uri):
    """Returns the content of each file of a directory, in whatever store."""
    uri = str(uri)
    found = {}
    for folder, _, names in fileio.walk(uri):
        for name in names:
            path = os.path.join(folder, name)
            with fileio.open(path, "rb") as file:
                found[path[len(uri) :].strip("/")] = file.read()
    return found
