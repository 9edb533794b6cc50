"""What certificates, deferral rules and indexes say of themselves."""

import json
import pathlib
from typing import Any

import numpy as np

from keras_moe.calibration import Certificate
from keras_moe.calibration import DeferralRule
from keras_moe.retrieval._tuned_index import read_tuning


def facts_of_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a certificate, a rule or a tuned index says.

    Args:
        path: of the file.

    Raises:
        ValueError: if it is none of them, or contradicts itself.
    """
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(_unknown(path, f"{path}, no JSON: {error}")) from error
    names = set(document) if isinstance(document, dict) else set()
    if {"tolerance", "p_values"} <= names:
        return facts_of_certificate(path)
    if {"network", "stages"} <= names:
        return _facts_of_rule(DeferralRule.load(path))
    if {"frontier", "certificate"} <= names:
        return facts_of_tuned_index(path)
    raise ValueError(_unknown(path, f"{path}, with the fields {sorted(names)}"))


def facts_of_certificate(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a certificate grants, and its evidence.

    Args:
        path: of its file.

    Raises:
        ValueError: if it is none, or contradicts itself.
    """
    # A function of the user's may have made the p-values: the name says so.
    certificate = Certificate.load(path, custom_p_values=None)
    where = certificate.thresholds.index(certificate.threshold)
    return {
        "kind": "certificate",
        "threshold": certificate.threshold,
        "tolerance": certificate.tolerance,
        "confidence_level": certificate.confidence_level,
        "n": certificate.n,
        "risk": certificate.risks[where],
        "p_value": certificate.p_values[where],
        "p_values_by": certificate.p_value,
        "correction": certificate.correction,
        "thresholds_tested": list(certificate.thresholds),
        "risks": list(certificate.risks),
        "policy": certificate.policy,
        "fingerprint": certificate.fingerprint,
        "digest": certificate.digest,
    }


def facts_of_tuned_index(path: pathlib.Path) -> dict[str, Any]:
    """Returns the settings that an index was tuned to, and its recall.

    Args:
        path: of the file that `TunedIndex.save` wrote.

    Raises:
        ValueError: if it is none, or contradicts itself.
    """
    tuned = read_tuning(path)
    return {
        "kind": "tuned index",
        "k": tuned.k,
        "certified_recall": tuned.certified_recall,
        "confidence_level": tuned.certificate.confidence_level,
        "n": tuned.certificate.n,
        "measured_recall": tuned.measured_recall,
        "predicted_recall": tuned.predicted_recall,
        "settings": tuned.settings,
        "bytes_per_query": tuned.bytes_per_query,
        "points_of_the_frontier": len(tuned.frontier),
        "fingerprint": tuned.certificate.fingerprint,
    }


def facts_of_faiss_index(path: pathlib.Path) -> dict[str, Any]:
    """Returns what `FaissIndex.save` wrote beside the index of faiss.

    Args:
        path: of the file.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            config = json.loads(str(file["config"]))
            return {
                "kind": "FaissIndex",
                "candidates": len(file["identifiers"]),
                "identifiers": config["id_kind"],
                "k": config["k"],
                "settings": config["settings"],
                "file_bytes": path.stat().st_size,
            }
    except (KeyError, TypeError, EOFError) as error:
        raise ValueError(
            f"{path} must be a file that `FaissIndex.save` wrote. {error!r}"
        ) from error


def _facts_of_rule(rule: DeferralRule) -> dict[str, Any]:
    config = rule.get_config()
    return {
        "kind": "deferral rule",
        "outputs": rule.kind,
        "target": rule.target,
        "threshold": rule.threshold,
        "network": "none" if rule.network is None else "fitted",
        "report": config["report"],
        "stages": rule.stages and list(rule.stages),
        "digest": rule.digest,
    }


def _unknown(path: pathlib.Path, received: str) -> str:
    return (
        "`PATH` must be a `.keras` file, a SavedModel, a certificate, a "
        f"deferral rule or an index. Received: {received}."
    )
