"""What a model server counts, for Prometheus."""

import json
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np
import prometheus_client
from prometheus_client import core
from prometheus_client import registry

from keras_moe.serving.protocol._version_state import VersionState
from keras_moe.serving.server._deferral_shares import DeferralShares
from keras_moe.serving.versions._certification import Certification
from keras_moe.serving.versions._certification import DeferralRange

PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
_PREFIX = "keras_moe_serving"
_SECONDS = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_GUARANTEE = (
    *("threshold", "bounds", "tolerance", "confidence_level", "is_bound"),
)
# Buckets of the histogram of exit layers.
_DEPTHS = (*range(1, 13), 16, 20, 24, 32, 48)


class ServerMetrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._requests = prometheus_client.Counter(
            f"{_PREFIX}_requests",
            "Requests answered; `code` is the canonical status.",
            ("api", "method", "code", "version"),
            registry=self._registry,
        )
        self._seconds = prometheus_client.Histogram(
            f"{_PREFIX}_request_seconds",
            "Seconds from a request's arrival in Python to its answer.",
            ("api", "method", "version"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batch_rows = prometheus_client.Histogram(
            f"{_PREFIX}_batch_rows",
            "Rows of requests that ran together.",
            buckets=_ROWS,
            registry=self._registry,
        )
        self._exits = _ExitDepths()
        self._registry.register(self._exits)
        self._deferrals = DeferralShares(_PREFIX)
        self._registry.register(self._deferrals)
        self._log_records = _LogRecords()
        self._registry.register(self._log_records)
        prometheus_client.ProcessCollector(registry=self._registry)

    def show_versions(
        self,
        states: Callable[[], dict[int, VersionState]],
        labels: Callable[[], dict[str, int]],
        certifications: Callable[[], dict[int, Certification]] = dict,
    ) -> None:
        """Shows versions and labels, as they are whenever metrics are read.

        Args:
            states: gives the state of each version.
            labels: gives the version of each label.
            certifications: gives what is guaranteed of served versions.
        """
        self._registry.register(_Versions(states, labels, certifications))

    def show_request_log(self, counts: Callable[[], dict[str, int]]) -> None:
        """Shows what became of sampled requests, whenever metrics are read.

        Args:
            counts: gives the number of records of each outcome.
        """
        self._log_records.counts = counts

    def count_request(
        self,
        api: str,
        method: str,
        code: str,
        seconds: float,
        version: int | None = None,
    ) -> None:
        """Counts an answer.

        Args:
            api: `"grpc"` or `"rest"`.
            method: such as `"Predict"`; empty where it was refused before.
            code: canonical status name.
            seconds: how long it took.
            version: what answered, if anything did.
        """
        number = "" if version is None else str(version)
        self._requests.labels(api, method, code, number).inc()
        self._seconds.labels(api, method, number).observe(seconds)

    def count_exits(self, version: int, layers: np.ndarray) -> None:
        """Counts after which layer each token left; 0 stands for no token."""
        self._exits.count(version, layers)

    def count_stages(
        self, version: int, stages: np.ndarray, certified: DeferralRange | None
    ) -> None:
        """Counts which stage of a cascade answered each row.

        Args:
            version: that answered.
            stages: int `(rows,)`, from 0.
            certified: the range of the share of deferred rows; `None` if
                nothing is certified of it.
        """
        self._deferrals.count(version, stages, certified)

    def count_batch(self, rows: int) -> None:
        """Counts one run of a model."""
        self._batch_rows.observe(rows)

    def drop_version(self, version: int) -> None:
        """Drops the counts of a version that is gone."""
        number = {"version": str(version)}
        self._requests.remove_by_labels(number)
        self._seconds.remove_by_labels(number)
        self._exits.drop_version(version)
        self._deferrals.drop_version(version)

    def expose(self) -> bytes:
        """Writes all metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self._registry)


class _ExitDepths(registry.Collector):
    """A histogram that counts the tokens of an answer in one go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Version to the tokens in each bucket, and the sum of their depths.
        self._counts: dict[int, np.ndarray] = {}
        self._sums: dict[int, int] = {}

    def count(self, version: int, layers: np.ndarray) -> None:
        depths = layers[layers > 0]
        buckets = np.bincount(
            np.searchsorted(_DEPTHS, depths), minlength=len(_DEPTHS) + 1
        )
        with self._lock:
            self._counts[version] = self._counts.get(version, 0) + buckets
            self._sums[version] = self._sums.get(version, 0) + int(depths.sum())

    def drop_version(self, version: int) -> None:
        with self._lock:
            self._counts.pop(version, None)
            self._sums.pop(version, None)

    def collect(self) -> Iterator[core.Metric]:
        family = core.HistogramMetricFamily(
            f"{_PREFIX}_exit_layer",
            "Decoder layer after which each token left.",
            labels=("version",),
        )
        bounds = [*(str(float(depth)) for depth in _DEPTHS), "+Inf"]
        with self._lock:
            for version, counts in self._counts.items():
                family.add_metric(
                    (str(version),),
                    list(zip(bounds, np.cumsum(counts).tolist(), strict=True)),
                    self._sums[version],
                )
        yield family


class _LogRecords(registry.Collector):
    """What the request log says it has written and dropped."""

    def __init__(self) -> None:
        # Without a log the series are there, at zero, for dashboards.
        self.counts: Callable[[], dict[str, int]] = lambda: {
            "written": 0,
            "dropped": 0,
        }

    def describe(self) -> Iterable[core.Metric]:
        return []

    def collect(self) -> Iterator[core.Metric]:
        family = core.CounterMetricFamily(
            f"{_PREFIX}_request_log_records",
            "Sampled requests; `outcome` is written or dropped.",
            labels=("outcome",),
        )
        for outcome, count in self.counts().items():
            family.add_metric((outcome,), count)
        yield family


class _Versions(registry.Collector):
    """Versions and labels, as they are when they are collected."""

    def __init__(
        self,
        states: Callable[[], dict[int, VersionState]],
        labels: Callable[[], dict[str, int]],
        certifications: Callable[[], dict[int, Certification]],
    ):
        self._states = states
        self._labels = labels
        self._certifications = certifications

    def describe(self) -> Iterable[core.Metric]:
        return []

    def collect(self) -> Iterator[core.Metric]:
        states = core.GaugeMetricFamily(
            f"{_PREFIX}_version_state",
            "1 for the state that each version is in.",
            labels=("version", "state"),
        )
        for version, state in self._states().items():
            states.add_metric((str(version), state.state), 1)
        yield states
        labels = core.GaugeMetricFamily(
            f"{_PREFIX}_version_label",
            "1 for the version that each label means.",
            labels=("label", "version"),
        )
        for label, version in self._labels().items():
            labels.add_metric((label, str(version)), 1)
        yield labels
        certified = core.GaugeMetricFamily(
            f"{_PREFIX}_certified",
            "1 for a version whose early exits or cascade are certified: "
            "`bounds` is at most `tolerance`; `is_bound` tells whether its "
            "graph names the certificate.",
            labels=("version", *_GUARANTEE),
        )
        shares = core.GaugeMetricFamily(
            f"{_PREFIX}_deferral_share_certified",
            "The ends of the range of the share of deferred rows.",
            labels=("version", "end"),
        )
        for version, certification in self._certifications().items():
            summary = certification.summary()
            values = [_label(summary[name]) for name in _GUARANTEE]
            certified.add_metric((str(version), *values), 1)
            if certification.deferral:
                for end in ("low", "high"):
                    share = getattr(certification.deferral, end)
                    shares.add_metric((str(version), end), share)
        yield from (certified, shares)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
