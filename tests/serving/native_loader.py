"""Builds and runs `native_loader.c`, the proof that needs no Python.

The program links against the installed TensorFlow wheel alone. It runs on the
system's own C library: the wheel's libraries need a much older one than the
environment's interpreter may have been given.
"""

import importlib.util
import itertools
import math
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_SOURCE = pathlib.Path(__file__).with_suffix(".c")
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
_TIMEOUT = 120


def build(folder: str | os.PathLike) -> pathlib.Path:
    """Compiles the loader into a folder and gives the program's path."""
    binary = pathlib.Path(folder, "native_loader")
    libraries = pathlib.Path(tf.sysconfig.get_lib())
    command = [
        *_compiler(),
        "-std=gnu11",
        "-O1",
        "-Wall",
        f"-I{tf.sysconfig.get_include()}",
        str(_SOURCE),
        "-o",
        str(binary),
        *(str(libraries / name) for name in _LIBRARIES),
        f"-Wl,-rpath,{libraries}",
        # What those libraries need in turn is found when they are loaded.
        "-Wl,--allow-shlib-undefined",
    ]
    cache = os.fspath(folder)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        # Zig would write into the home directory.
        env={
            **os.environ,
            "ZIG_GLOBAL_CACHE_DIR": cache,
            "ZIG_LOCAL_CACHE_DIR": cache,
        },
    )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
    return binary


def run(
    binary: str | os.PathLike,
    saved_model_dir: str | os.PathLike,
    input_tensor_name: str,
    words: list[str],
    output_tensor_names: Sequence[str],
) -> list:
    """Feeds words to a SavedModel and gives outputs, nested as their shapes.

    Strings come as `bytes`. Tensor names are those of a signature, such as
    `signature.inputs["word"].tensor_name`.
    """
    done = subprocess.run(
        [
            os.fspath(binary),
            os.fspath(saved_model_dir),
            input_tensor_name,
            ",".join(output_tensor_names),
            *words,
        ],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        raise RuntimeError(f"native_loader: {done.stderr.strip()}")
    lines = iter(done.stdout.split("\n")[:-1])
    return [_read(header.split(), lines) for header in lines]


def _read(header: list[str], lines: Iterator[str]) -> list:
    kind, *sizes = header
    shape = [int(size) for size in sizes]
    elements = itertools.islice(lines, math.prod(shape))
    if kind == "string":
        values = np.array([bytes.fromhex(line) for line in elements], object)
    else:
        values = np.array([*elements]).astype(kind)
    return values.reshape(shape).tolist()


def _compiler() -> list[str]:
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(name)
        if words and shutil.which(words[0]):
            # To look through TensorFlow's symbols takes others long.
            quick = shutil.which("ld.gold")
            return [*words, *(["-fuse-ld=gold"] if quick else [])]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError(
        "The native loader needs a C compiler: install `cc`, or "
        "`pip install ziglang` into this environment."
    )
