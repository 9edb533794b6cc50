"""Fingerprints of code, for caches that look at parameters alone.

TFX runs a component again when its inputs or parameters change. An edit of the
function that a parameter merely names goes unseen, and the cache answers with
what the old code made. So the fingerprint of the code becomes a parameter, such
as an entry of `custom_config`.
"""

import functools
import hashlib
import importlib.util
import pathlib
from types import ModuleType

# Rooms that evaluate, serve, draw or run pipelines, but train nothing.
_NOT_TRAINING = (
    "keras_moe.components",
    "keras_moe.orchestration",
    "keras_moe.serving",
    "keras_moe.visualization",
)
# How a model is exported is a part of what a trainer makes.
_EXPORTING = "keras_moe.serving.exporting"


def code_fingerprint(
    *modules: ModuleType | str,
    without: tuple[ModuleType | str, ...] = (),
) -> str:
    """Fingerprints the source of modules and packages.

    The files are read once a process: code that is edited while a pipeline
    runs is not the code that runs.

    Example:
    >>> code = keras_moe.orchestration.code_fingerprint("keras_moe.metrics")
    >>> code == keras_moe.orchestration.code_fingerprint(keras_moe.metrics)
    True
    >>> code == keras_moe.orchestration.code_fingerprint(keras_moe.ops)
    False

    Args:
        *modules: Modules, or their import paths. A package stands for all
            modules below it.
        without: Modules or packages that a package among `modules` does not
            stand for. What is named in `modules` itself counts all the same.

    Returns:
        16 hexadecimal digits. A checkout elsewhere gives the same.

    Raises:
        ModuleNotFoundError: If there is no such module, or it has no source.
    """
    return _fingerprint(
        tuple(_name(each) for each in modules),
        tuple(_name(each) for each in without),
    )


def training_fingerprint(*modules: ModuleType | str) -> str:
    """Fingerprints what trains: a project's modules, and the library.

    Rooms of `keras_moe` that do not change what is trained and exported, such
    as the model server, are left out: an edit there trains nothing anew.

    Example:
    >>> code = keras_moe.orchestration.training_fingerprint("keras_moe")
    >>> custom_config = {"code": code}  # of `tfx.components.Trainer`
    >>> len(code)
    16

    Args:
        *modules: As for `code_fingerprint`.
    """
    return code_fingerprint(
        *modules, "keras_moe", _EXPORTING, without=_NOT_TRAINING
    )


def _name(module: ModuleType | str) -> str:
    return module if isinstance(module, str) else module.__name__


@functools.cache
def _fingerprint(modules: tuple[str, ...], without: tuple[str, ...]) -> str:
    return digest_of(source_files(modules, without))


def source_files(
    modules: tuple[str, ...], without: tuple[str, ...]
) -> dict[str, pathlib.Path]:
    """Returns the source files of modules, by their import paths' folders."""
    found: dict[str, pathlib.Path] = {}
    for module in modules:
        files = _files(module)
        for other in without:
            if not f"{module}.".startswith(f"{other}."):
                files = {
                    name: path
                    for name, path in files.items()
                    if name not in _files(other)
                }
        found |= files
    return found


def digest_of(files: dict[str, pathlib.Path]) -> str:
    """Returns a digest of files' names and contents."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


@functools.cache
def _files(module: str) -> dict[str, pathlib.Path]:
    """Returns `package/module.py` to the file, of a module or a package."""
    spec = importlib.util.find_spec(module)
    origin = spec.origin if spec is not None else None
    if spec is None or origin is None or not origin.endswith(".py"):
        raise ModuleNotFoundError(
            "`modules` must name modules with a source file. "
            f"Received: {module!r}"
        )
    file = pathlib.Path(origin)
    if spec.submodule_search_locations is None:
        return {f"{module.replace('.', '/')}.py": file}
    folder = module.replace(".", "/")
    return {
        f"{folder}/{path.relative_to(file.parent).as_posix()}": path
        for path in file.parent.rglob("*.py")
    }
