"""The certificate of a version, and whether its graph knows of it."""

import hashlib
import os
import pathlib
from typing import Any
from typing import NamedTuple

import tensorflow as tf
from google.protobuf import struct_pb2
from tensorflow.core.protobuf import saved_model_pb2

from keras_moe.calibration._certificate import Certificate
from keras_moe.model_folder import CERTIFICATE
from keras_moe.model_folder import VARIABLES_INDEX
from keras_moe.serving.versions._version_bundle import read_saved_model

_NAME = "keras_moe.certificate"
_WEIGHTS = "keras_moe.variables_index"


class DeferralRange(NamedTuple):
    """What a certificate says of the share of rows that a stage defers.

    Attributes:
        stage: number of the stage that defers, from 0.
        low: least share.
        high: greatest share.
    """

    stage: int
    low: float
    high: float


class Certification(NamedTuple):
    """What is guaranteed of a version's early exits, or of its cascade.

    Attributes:
        certificate: beside the graph. It names its model by a fingerprint.
        is_bound: whether the graph names this very certificate. Graphs of
            an earlier keras_moe name none, and nobody can tell whether the file
            beside them is theirs.
        deferral: of a cascade; `None` for any other model.
    """

    certificate: Certificate
    is_bound: bool
    deferral: DeferralRange | None = None

    @property
    def bounds(self) -> str:
        """Says what is at most `tolerance`, for people."""
        policy = self.certificate.policy or {}
        cost = self.deferral and policy.get("bounds") != "risk"
        return "share of deferred rows" if cost else "expected loss"

    def summary(self) -> dict[str, Any]:
        """Gives what a client or an operator wants to know, as plain values."""
        certificate = self.certificate
        return {
            "threshold": certificate.threshold,
            "tolerance": certificate.tolerance,
            "bounds": self.bounds,
            "confidence_level": certificate.confidence_level,
            "n": certificate.n,
            "p_value": certificate.p_value,
            "fingerprint": certificate.fingerprint,
            "digest": certificate.digest,
            "is_bound": self.is_bound,
            "deferral_share": self.deferral
            and [self.deferral.low, self.deferral.high],
        }


def bind_certificate(
    model: saved_model_pb2.SavedModel,
    certificate: Certificate,
    variables_index: bytes,
) -> None:
    """Has the graphs of a SavedModel name the certificate that they serve.

    Args:
        model: changed in place.
        certificate: to be named by its digest.
        variables_index: content of that file, which holds a checksum of each
            weight. It is named by its digest, too: the same graph with the
            weights of another training is not what was certified.
    """
    note = struct_pb2.Struct()
    note[_NAME] = certificate.digest
    note[_WEIGHTS] = hashlib.sha256(variables_index).hexdigest()
    for meta_graph in model.meta_graphs:
        meta_graph.meta_info_def.any_info.Pack(note)


def read_certification(folder: str | os.PathLike) -> Certification | None:
    """Reads what is guaranteed of a version's early exits, or cascade.

    Args:
        folder: of the version.

    Returns:
        The certificate; `None` if the version has none.

    Raises:
        tf.errors.DataLossError: the file is no certificate, or contradicts
            itself.
        tf.errors.FailedPreconditionError: the graph names another certificate,
            one that is not there, or other weights.
    """
    path = pathlib.Path(folder, CERTIFICATE)
    note = _note_of(read_saved_model(folder))
    named = note.get(_NAME)
    if not path.is_file():
        if named is None:
            return None
        raise _refusal(f"There is no {path}, which the graph names: {named}.")
    try:
        # What the graph names is what was granted, by whatever p-value.
        certificate = Certificate.load(path, None if named else ())
        deferral = _deferral_of(certificate)
    except (OSError, ValueError) as error:
        raise tf.errors.DataLossError(None, None, str(error)) from error
    if named not in (None, certificate.digest):
        raise _refusal(
            f"{path} must be the certificate that the graph names, {named}. "
            f"Received: {certificate.digest}."
        )
    weights, found = note.get(_WEIGHTS), _digest_of_index(folder)
    # Graphs of an earlier version name no weights.
    if weights not in (None, found):
        raise _refusal(
            f"{pathlib.Path(folder, VARIABLES_INDEX)} must be that of the "
            "weights which were certified, whose SHA-256 the graph names: "
            f"{weights}. Received: {found}."
        )
    return Certification(certificate, named is not None, deferral)


def _deferral_of(certificate: Certificate) -> DeferralRange | None:
    """Raises `ValueError` if the certificate of a cascade has no range."""
    policy = certificate.policy or {}
    if policy.get("kind") != "cascade":
        return None
    stage: Any = policy.get("stage")
    share: Any = policy.get("deferral_share")
    plain = (
        isinstance(share, list)
        and len(share) == 2
        and all(isinstance(end, float | int) for end in share)
        and 0.0 <= share[0] <= share[1] <= 1.0
    )
    whole = isinstance(stage, int) and not isinstance(stage, bool)
    if not plain or not whole or stage < 0:
        raise ValueError(
            "The certificate of a cascade must say which `stage` defers, and "
            "between which two shares of rows (`deferral_share`). Received: "
            f"stage={stage!r}, deferral_share={share!r}."
        )
    return DeferralRange(stage, float(share[0]), float(share[1]))


def _note_of(model: saved_model_pb2.SavedModel) -> dict[str, str]:
    for meta_graph in model.meta_graphs:
        note = struct_pb2.Struct()
        # Others may keep something else there.
        if meta_graph.meta_info_def.any_info.Unpack(note) and _NAME in note:
            return {
                key: str(note[key]) for key in (_NAME, _WEIGHTS) if key in note
            }
    return {}


def _digest_of_index(folder: str | os.PathLike) -> str:
    path = pathlib.Path(folder, VARIABLES_INDEX)
    content = path.read_bytes() if path.is_file() else b""
    return hashlib.sha256(content).hexdigest()


def _refusal(message: str) -> tf.errors.FailedPreconditionError:
    return tf.errors.FailedPreconditionError(None, None, message)
