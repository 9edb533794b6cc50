"""The files of a new project, made of the templates beside this file."""

import csv
import importlib.util
import io
import json
import keyword
import os
import pathlib
import re
import shlex
import shutil
import string
import sys
import tempfile
from collections.abc import Mapping

TEMPLATES = pathlib.Path(__file__).parent / "templates"
_PACKAGE = "project"
_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Folders that a project has beside its package.
_OWN = ("build", "data", "tests")


def check_name(folder: pathlib.Path) -> None:
    """Raises `ValueError` unless a project can be written to a folder.

    Args:
        folder: whose name is that of the project, and of its package.
    """
    name = folder.name
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ValueError(
            "`NAME` must be a name of a Python package: lower-case letters, "
            f"digits and _, a letter first. Received: {name or folder}."
        )
    if folder.exists():
        raise ValueError(f"`NAME` must be new. Received: {folder}, which is.")
    if (holder := _holder(name)) is not None:
        raise ValueError(
            "`NAME` must not be taken, or Python would import the wrong "
            f"module: `{name}` is {holder}; choose another name. "
            f"Received: {folder}."
        )
    if not folder.parent.is_dir():
        raise ValueError(
            "`NAME` must lie in a folder that exists. Received: "
            f"{folder.parent}."
        )


def _holder(name: str) -> str | None:
    """Says what has a name already; `None` if it is free."""
    if name in _OWN:
        return "a folder of each project"
    if name in sys.stdlib_module_names:
        return "a module of Python"
    if importlib.util.find_spec(name) is not None:
        return "a module that is installed"
    return None


def project_files(
    name: str, kind: str, targets: Mapping[str, str], settings: Mapping
) -> dict[str, str]:
    """Returns the texts of a project's files, by their paths in it.

    Args:
        name: of the project.
        kind: the folder of its templates.
        targets: of the sources.
        settings: for the templates.
    """
    values = {
        "project": name,
        "curl": _curl(name, settings["example"]),
        **settings,
    }
    files = {"data/pairs.csv": _csv(targets)}
    for folder in (TEMPLATES / "shared", TEMPLATES / kind):
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.suffix == ".pyc":
                continue
            first, *rest = path.relative_to(folder).parts
            first = {_PACKAGE: name, "gitignore": ".gitignore"}.get(
                first, first
            )
            text = string.Template(path.read_text("utf-8")).substitute(values)
            files["/".join([first, *rest])] = text
    return dict(sorted(files.items()))


def write_project(folder: pathlib.Path, files: Mapping[str, str]) -> None:
    """Writes all files, or none.

    Args:
        folder: that does not exist yet.
        files: as `project_files` returns them.
    """
    partial = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent)
    )
    try:
        for name, text in files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        # `mkdtemp` lets nobody else in.
        partial.chmod(0o777 & ~_umask())
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _csv(targets: Mapping[str, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("source", "target"), *targets.items()])
    return text.getvalue()


def _curl(name: str, source: str) -> str:
    body = json.dumps({"inputs": [source]}, ensure_ascii=False)
    url = f"http://127.0.0.1:8501/v1/models/{name}:predict"
    return shlex.join(["curl", "-d", body, url])
