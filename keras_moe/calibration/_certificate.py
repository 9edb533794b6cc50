"""A certified threshold and its evidence, as a plain file."""

import dataclasses
import hashlib
import json
import numbers
import os
import pathlib
import re
import sys
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_moe.atomic_file import atomic_file
from keras_moe.calibration._checks import to_thresholds
from keras_moe.calibration._corrections import CORRECTIONS
from keras_moe.calibration._evidence import check_p_values
from keras_moe.calibration._evidence import check_threshold
from keras_moe.calibration._p_values import P_VALUES
from keras_moe.calibration._plain_json import differences
from keras_moe.calibration._plain_json import refuse_constant
from keras_moe.calibration._plain_json import to_plain
from keras_moe.calibration._plain_json import unique_fields
from keras_moe.types import Config
from keras_moe.validation import check_choice
from keras_moe.validation import check_fraction
from keras_moe.validation import check_in_unit_interval
from keras_moe.validation import check_size

FORMAT_VERSION = 1
# Fingerprints of the first naming of weights have no version in front.
_FINGERPRINT = re.compile(r"(?:(\d+):)?[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A threshold, what it guarantees, and the evidence.

    With a probability of at least `confidence_level` over the examples of the
    calibration, the expected loss at `threshold` is at most `tolerance`, for
    the model of this fingerprint under this policy.

    A certificate agrees with itself or cannot be made: the threshold is the
    last that the correction accepts of these p-values; and the p-values are
    those of the risks, for kinds of p-values that need nothing but risks, or
    not below what bets on losses of these risks can come to.

    Attributes:
        threshold: the one certified.
        tolerance: greatest expected loss, between 0 and 1.
        confidence_level: between 0 and 1.
        n: number of examples.
        thresholds: all that were tested, in order, a tuple of m floats.
        p_values: one per threshold.
        risks: mean loss per threshold.
        p_value: name of the p-value.
        correction: name of the correction for testing many.
        policy: what else the losses depended on, as plain values, without the
            threshold; `None` if it was not recorded.
        fingerprint: of the model; `None` if it was not recorded.
        format_version: of the file.

    Raises:
        ValueError: if a field is of the wrong type or out of its range, or
            the fields contradict one another.

    Example:

    >>> losses, path = np.zeros([200, 1]), directory + ".json"
    >>> keras_moe.calibration.calibrate(
    ...     losses, [0.5], tolerance=0.05, fingerprint="abc"
    ... ).save(path)
    >>> certificate = keras_moe.calibration.Certificate.load(path)
    >>> certificate.check(fingerprint="abc")
    >>> certificate.threshold
    0.5
    """

    threshold: float
    tolerance: float
    confidence_level: float
    n: int
    thresholds: tuple[float, ...]
    p_values: tuple[float, ...]
    risks: tuple[float, ...]
    p_value: str
    correction: str
    policy: Config | None = None
    fingerprint: str | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self):
        if (
            isinstance(self.format_version, bool)
            or self.format_version != FORMAT_VERSION
        ):
            raise ValueError(
                f"`format_version` must be {FORMAT_VERSION}, the one that this "
                "version of keras_moe knows. Received: format_version="
                f"{self.format_version!r}."
            )
        self._set_plain_values()
        check_fraction(
            tolerance=self.tolerance, confidence_level=self.confidence_level
        )
        check_choice(CORRECTIONS, correction=self.correction)
        to_thresholds(self.thresholds, self.correction)
        for name in ("p_values", "risks"):
            values = getattr(self, name)
            if len(values) != len(self.thresholds):
                raise ValueError(
                    f"`{name}` must be as many as `thresholds`, "
                    f"{len(self.thresholds)}. Received: {len(values)}."
                )
            check_in_unit_interval(name, np.array(values))
        self._check_evidence()

    def save(self, path: str | os.PathLike) -> None:
        """Writes a JSON file, at once or not at all.

        Args:
            path: of the file; what is there is replaced.
        """
        with atomic_file(path) as partial:
            partial.write_text(self.to_json(), encoding="utf-8")

    @property
    def digest(self) -> str:
        """SHA-256 of all fields, by which another file can name this one."""
        document = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(document.encode()).hexdigest()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        custom_p_values: Collection[str] | None = (),
    ) -> "Certificate":
        """Reads and checks a file that `save` wrote.

        Args:
            path: of the file.
            custom_p_values: see `from_json`.

        Raises:
            ValueError: if it is not a certificate, or contradicts itself.
        """
        data = pathlib.Path(path).read_bytes()
        try:
            return cls.from_json(data.decode("utf-8"), custom_p_values)
        except ValueError as error:
            raise ValueError(f"{path} is not a certificate. {error}") from error

    def to_json(self) -> str:
        """Returns the text of the file; its numbers read back exactly."""
        document = dataclasses.asdict(self)
        return json.dumps(document, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(
        cls, text: str, custom_p_values: Collection[str] | None = ()
    ) -> "Certificate":
        """Makes a certificate of the text of its file.

        Args:
            text: what `to_json` returned.
            custom_p_values: names of functions that `calibrate` was given for
                p-values. A name that is neither among them nor one of ours is
                refused: nothing would be known of its p-values. `None` takes
                any, for a file that is known to be what was granted.

        Raises:
            ValueError: if it is not a certificate, or contradicts itself.
        """
        document = json.loads(
            text,
            parse_constant=refuse_constant,
            object_pairs_hook=unique_fields,
        )
        if not isinstance(document, dict):
            raise ValueError(
                f"It must hold an object. Received: {type(document).__name__}."
            )
        names = {field.name for field in dataclasses.fields(cls)}
        missing, unknown = names - set(document), set(document) - names
        if missing or unknown:
            raise ValueError(
                f"Its fields must be those of a certificate. Missing: "
                f"{sorted(missing)}; unknown: {sorted(unknown)}."
            )
        certificate = cls(**document)
        if custom_p_values is not None:
            known = (*P_VALUES, *custom_p_values)
            check_choice(known, p_value=certificate.p_value)
        return certificate

    def check(
        self,
        *,
        fingerprint: str | None = None,
        policy: Config | None = None,
    ) -> None:
        """Makes sure that the certificate is one for this model and policy.

        Args:
            fingerprint: of the model at hand; `None` not to look at it.
            policy: at hand, without the threshold; `None` not to look at it.

        Raises:
            ValueError: naming all that differs, or saying that fingerprints
                were made with another naming of weights; or if nothing is
                given.
        """
        if fingerprint is None and policy is None:
            raise ValueError(
                "`fingerprint` or `policy` must be given. Received: neither."
            )
        found: list[str] = []
        if fingerprint is not None:
            _check_naming(self.fingerprint, fingerprint)
            found += differences("fingerprint", self.fingerprint, fingerprint)
        if policy is not None:
            found += differences("policy", self.policy, _plain_policy(policy))
        if found:
            raise ValueError(
                "The certificate is not one for what was given: "
                + "; ".join(found)
                + "."
            )

    def _set_plain_values(self) -> None:
        """Turns NumPy's numbers into Python's, and checks types."""
        plain: dict[str, Any] = {}
        for name in ("threshold", "tolerance", "confidence_level"):
            plain[name] = _number(name, getattr(self, name))
        for name in ("thresholds", "p_values", "risks"):
            plain[name] = _numbers(name, getattr(self, name))
        check_size(n=self.n)
        if isinstance(self.n, bool) or self.n > sys.maxsize:
            raise ValueError(
                f"`n` must be a number of examples. Received: n={self.n}."
            )
        plain["n"] = int(self.n)
        for name in ("p_value", "fingerprint"):
            value = getattr(self, name)
            optional = name == "fingerprint" and value is None
            if not optional and not (isinstance(value, str) and value):
                raise ValueError(
                    f"`{name}` must be a string that is not empty. Received: "
                    f"{name}={value!r}."
                )
        if not isinstance(self.correction, str):
            raise ValueError(
                "`correction` must be a string. Received: correction="
                f"{self.correction!r}."
            )
        if self.policy is not None:
            plain["policy"] = _plain_policy(self.policy)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    def _check_evidence(self) -> None:
        if self.threshold not in self.thresholds:
            raise ValueError(
                f"`threshold` must be one of `thresholds`, "
                f"{list(self.thresholds)}. Received: threshold="
                f"{self.threshold}."
            )
        check_p_values(
            self.p_value, self.p_values, self.risks, self.n, self.tolerance
        )
        check_threshold(
            self.threshold,
            self.thresholds,
            self.p_values,
            1.0 - self.confidence_level,
            self.correction,
        )


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(
            f"`{name}` must be a number. Received: {name}={value!r}."
        )
    # `isfinite` would raise on integers that no float can hold; JSON has them.
    magnitude: Any = abs(value)
    if not magnitude <= sys.float_info.max:
        raise ValueError(
            f"`{name}` must be finite. Received: {name}={value!r}."
        )
    return float(value)


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(
            f"`{name}` must be a list of numbers. Received: {name}={values!r}."
        )
    return tuple(_number(name, value) for value in values)


def _check_naming(certified: str | None, given: str) -> None:
    """Raises `ValueError` for fingerprints that cannot be compared."""
    then, now = _naming(certified), _naming(given)
    if then is not None and now is not None and then != now:
        raise ValueError(
            "The certificate's fingerprint was made with another naming of "
            f"weights (version {then}; the fingerprint at hand has {now}), so "
            "it cannot be told whether the certificate is one for this model. "
            "Calibrate again, or check it with the version of keras_moe that "
            "made it."
        )


def _naming(fingerprint: str | None) -> int | None:
    """Returns the naming of weights behind one of `weights.fingerprint`."""
    match = _FINGERPRINT.fullmatch(fingerprint or "")
    return int(match[1] or 1) if match else None


def _plain_policy(policy: Any) -> Config:
    """Returns a copy as JSON would read it back."""
    if not isinstance(policy, dict):
        raise ValueError(
            "`policy` must be a dictionary of plain values. Received: policy="
            f"{policy!r}."
        )
    if "threshold" in policy:
        raise ValueError(
            "`policy` must not hold the threshold: it is what a certificate "
            f"grants. Received: policy={policy!r}."
        )
    return to_plain("policy", policy)
