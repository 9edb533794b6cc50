"""The certificate of a version, and whether its graph knows of it."""

import os
import pathlib
from typing import Any
from typing import NamedTuple

import tensorflow as tf
from google.protobuf import struct_pb2
from tensorflow.core.protobuf import saved_model_pb2

from keras_moe.calibration._certificate import Certificate
from keras_moe.model_folder import CERTIFICATE
from keras_moe.serving.versions._version_bundle import read_saved_model

_NAME = "keras_moe.certificate"


class Certification(NamedTuple):
    """What is guaranteed of a version's early exits.

    Attributes:
        certificate: beside the graph. It names its model by a fingerprint.
        is_bound: whether the graph names this very certificate. Graphs of
            an earlier keras_moe name none, and nobody can tell whether the file
            beside them is theirs.
    """

    certificate: Certificate
    is_bound: bool

    def summary(self) -> dict[str, Any]:
        """Gives what a client or an operator wants to know, as plain values."""
        certificate = self.certificate
        return {
            "threshold": certificate.threshold,
            "tolerance": certificate.tolerance,
            "confidence_level": certificate.confidence_level,
            "n": certificate.n,
            "p_value": certificate.p_value,
            "fingerprint": certificate.fingerprint,
            "digest": certificate.digest,
            "is_bound": self.is_bound,
        }


def bind_certificate(
    model: saved_model_pb2.SavedModel, certificate: Certificate
) -> None:
    """Has the graphs of a SavedModel name the certificate that they serve.

    Args:
        model: changed in place.
        certificate: to be named by its digest.
    """
    note = struct_pb2.Struct()
    note[_NAME] = certificate.digest
    for meta_graph in model.meta_graphs:
        meta_graph.meta_info_def.any_info.Pack(note)


def read_certification(folder: str | os.PathLike) -> Certification | None:
    """Reads what is guaranteed of a version's early exits.

    Args:
        folder: of the version.

    Returns:
        The certificate; `None` if the version has none.

    Raises:
        tf.errors.DataLossError: the file is no certificate, or contradicts
            itself.
        tf.errors.FailedPreconditionError: the graph names another certificate,
            or one that is not there.
    """
    path = pathlib.Path(folder, CERTIFICATE)
    named = _named_by(read_saved_model(folder))
    if not path.is_file():
        if named is None:
            return None
        raise _refusal(f"There is no {path}, which the graph names: {named}.")
    try:
        # What the graph names is what was granted, by whatever p-value.
        certificate = Certificate.load(path, None if named else ())
    except (OSError, ValueError) as error:
        raise tf.errors.DataLossError(None, None, str(error)) from error
    if named not in (None, certificate.digest):
        raise _refusal(
            f"{path} must be the certificate that the graph names, {named}. "
            f"Received: {certificate.digest}."
        )
    return Certification(certificate, named is not None)


def _named_by(model: saved_model_pb2.SavedModel) -> str | None:
    for meta_graph in model.meta_graphs:
        note = struct_pb2.Struct()
        # Others may keep something else there.
        if meta_graph.meta_info_def.any_info.Unpack(note) and _NAME in note:
            return str(note[_NAME])
    return None


def _refusal(message: str) -> tf.errors.FailedPreconditionError:
    return tf.errors.FailedPreconditionError(None, None, message)
