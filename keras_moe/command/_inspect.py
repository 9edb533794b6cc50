"""`keras-moe inspect`: what is in a model, a certificate, an index."""

import pathlib
import zipfile
from typing import Annotated
from typing import Any

import typer

from keras_moe.command._answers import AsJson
from keras_moe.command._answers import errors_in_one_line
from keras_moe.command._answers import show
from keras_moe.command._facts_of_evidence import facts_of_faiss_index
from keras_moe.command._facts_of_evidence import facts_of_json
from keras_moe.command._facts_of_keras_file import facts_of_keras_file
from keras_moe.command._facts_of_keras_file import fingerprint_of
from keras_moe.command._facts_of_saved_model import facts_of_saved_model
from keras_moe.model_folder import is_saved_model
from keras_moe.serving.versions._version_folders import find_versions


def inspect(
    path: Annotated[
        pathlib.Path,
        typer.Argument(
            help="A `.keras` file, the directory of a SavedModel, a "
            "certificate, a deferral rule, a tuned index or a FaissIndex."
        ),
    ],
    with_fingerprint: Annotated[
        bool,
        typer.Option(
            "--fingerprint",
            help="Also load the `.keras` file, in safe mode, for the "
            "fingerprint that a certificate names a model by.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a file holds, without loading it."""
    with errors_in_one_line("Not inspected.", as_json):
        facts = _facts_of(path)
        if with_fingerprint:
            if not facts["kind"].startswith("Keras model"):
                raise ValueError(
                    "`--fingerprint` is for a `.keras` file. Received it for "
                    f"a {facts['kind']}: {path}."
                )
            facts["fingerprint"] = fingerprint_of(path)
    show(facts, as_json)


def _facts_of(path: pathlib.Path) -> dict[str, Any]:
    if path.is_dir():
        return _facts_of_directory(path)
    if not path.is_file():
        raise ValueError(
            "`PATH` must be a file or a directory: there is no such file. "
            f"Received: {path}."
        )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
        if "config.json" in names:
            return facts_of_keras_file(path)
        if {"config.npy", "index.npy", "identifiers.npy"} <= names:
            return facts_of_faiss_index(path)
        raise ValueError(
            "`PATH` must be a `.keras` file, or one that `FaissIndex.save` "
            f"wrote, if it is an archive. Received: {path}, with "
            f"{sorted(names)[:5]}."
        )
    return facts_of_json(path)


def _facts_of_directory(path: pathlib.Path) -> dict[str, Any]:
    if is_saved_model(path):
        return facts_of_saved_model(path)
    versions = find_versions(path)
    if versions:
        raise ValueError(
            "`PATH` must be one version of a model. Received: a directory of "
            f"versions, of which the newest is {next(iter(versions.values()))}."
        )
    raise ValueError(
        "`PATH` must be the directory of a SavedModel. Received: "
        f"{path}, which has no saved_model.pb."
    )
