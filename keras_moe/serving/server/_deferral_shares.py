"""How often a cascade defers, and whether that is what was certified."""

import logging
import math
import threading
from collections.abc import Iterator

import numpy as np
from prometheus_client import core
from prometheus_client import registry

from keras_moe.serving.versions._certification import DeferralRange

_LOG = logging.getLogger(__name__)
# Rows that a verdict rests upon, at least.
_WINDOW = 1000
# How rarely a window of rows like those of the calibration raises an alarm.
_FALSE_ALARM = 1e-4


class DeferralShares(registry.Collector):
    """Counts deferred rows by version, and warns where a range is left.

    A version that has answered nothing has no share: 0 means that of the rows
    that were answered none was deferred. Rows are judged window by window:
    there is an alarm where a window's share is so far outside the range that
    chance alone would rarely take it there.

    Args:
        prefix: of the metrics' names.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.Lock()
        self._counts: dict[int, _Counts] = {}

    def count(
        self, version: int, stages: np.ndarray, certified: DeferralRange | None
    ) -> None:
        """Counts the rows of an answer.

        Args:
            version: that answered.
            stages: int `(rows,)`, the stage that answered each, from 0.
            certified: what is certified of the share; `None` if nothing is.
        """
        stage = certified.stage if certified else 0
        rows = int((stages >= stage).sum())
        if not rows:
            return
        with self._lock:
            counts = self._counts.get(version)
            # A version whose files changed is loaded again.
            if counts is None or counts.certified != certified:
                counts = self._counts[version] = _Counts(certified)
            before = counts.alarm
            counts.add(rows, int((stages > stage).sum()))
            alarm, share = counts.alarm, counts.share
        if certified and alarm != before:
            _report(version, alarm, share, certified)

    def drop_version(self, version: int) -> None:
        """Forgets a version."""
        with self._lock:
            self._counts.pop(version, None)

    def collect(self) -> Iterator[core.Metric]:
        """Yields the metrics; those of a range where there is one."""
        rows = core.CounterMetricFamily(
            f"{self._prefix}_cascade_rows",
            "Rows that reached the stage of a cascade that may defer.",
            labels=("version",),
        )
        deferred = core.CounterMetricFamily(
            f"{self._prefix}_deferred_rows",
            "Rows that it deferred to the next.",
            labels=("version",),
        )
        share = core.GaugeMetricFamily(
            f"{self._prefix}_deferral_share",
            f"Share of deferred rows among the last {_WINDOW} or so.",
            labels=("version",),
        )
        alarm = core.GaugeMetricFamily(
            f"{self._prefix}_deferral_alarm",
            "1 where that share has left the range that was certified.",
            labels=("version",),
        )
        with self._lock:
            for version, counts in self._counts.items():
                labels = (str(version),)
                rows.add_metric(labels, counts.rows)
                deferred.add_metric(labels, counts.deferred)
                share.add_metric(labels, counts.share)
                if counts.certified:
                    alarm.add_metric(labels, float(counts.alarm))
        yield from (rows, deferred, share, alarm)


class _Counts:
    """The rows of one version: all, and those of the window."""

    def __init__(self, certified: DeferralRange | None) -> None:
        self.certified = certified
        self.rows = self.deferred = 0
        self.alarm = False
        self._window = [0, 0]
        self._last: float | None = None

    @property
    def share(self) -> float:
        """Of the last window that is full, or of the first so far."""
        if self._last is None:
            return self._window[1] / self._window[0]
        return self._last

    def add(self, rows: int, deferred: int) -> None:
        """Adds rows, and judges the window where they fill it."""
        self.rows += rows
        self.deferred += deferred
        self._window[0] += rows
        self._window[1] += deferred
        size, count = self._window
        if size < _WINDOW:
            return
        self._window = [0, 0]
        self._last = count / size
        if self.certified:
            self.alarm = _has_left(self.certified, self._last, size)


def _report(
    version: int, alarm: bool, share: float, certified: DeferralRange
) -> None:
    level, said = logging.INFO, "which is within what was certified again"
    if alarm:
        level, said = (
            logging.WARNING,
            "which is not what was certified: what is asked is not like the "
            "calibration, and the certificate says nothing of it",
        )
    _LOG.log(
        level,
        "Version %d defers %.1f %% of its rows, %s. Certified: %.1f to %.1f %%",
        version,
        100 * share,
        said,
        100 * certified.low,
        100 * certified.high,
    )


def _has_left(certified: DeferralRange, share: float, rows: int) -> bool:
    """Tells whether a share is outside a range by more than chance.

    Of rows whose true share is at an end of the range, at most `_FALSE_ALARM`
    of all windows are as far outside (Chernoff's bound).
    """
    end = min(max(share, certified.low), certified.high)
    return rows * _divergence(share, end) > math.log(1.0 / _FALSE_ALARM)


def _divergence(share: float, expected: float) -> float:
    """Returns the relative entropy of two coins, in nats."""
    total = 0.0
    for p, q in ((share, expected), (1.0 - share, 1.0 - expected)):
        if p > 0.0:
            total += p * math.log(p / q) if q > 0.0 else math.inf
    return total
