"""Who may ask, and how often."""

import hmac
import numbers
import threading
import time
from collections.abc import Callable

import tensorflow as tf

from keras_moe.validation import check_size

_SCHEME = "bearer"
_MIN_TOKEN_LENGTH = 16


class Gate:
    """Lets in those who know the token, no faster than the rate.

    Args:
        token: what a request must send as `Authorization: Bearer TOKEN`, at
            least 16 visible ASCII characters; `None` lets anyone in.
        requests_per_second: how many requests are let in, on the average, of
            all clients together; `None` is no limit.
        burst: how many may come at once after a pause; `None` is a second's.
        clock: gives the time in seconds.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> from keras_moe.serving.server._gate import Gate
    >>> gate = Gate(token="a-long-enough-secret")
    >>> gate.check("Bearer a-long-enough-secret")
    >>> gate.check("Bearer something else")
    Traceback (most recent call last):
    ...
    tensorflow.python.framework.errors_impl.UnauthenticatedError: ...
    """

    def __init__(
        self,
        token: str | None = None,
        requests_per_second: float | None = None,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        if token is not None and not isinstance(token, str):
            raise ValueError(
                "`token` must be text. Received: token of type "
                f"{type(token).__name__}"
            )
        if token is not None and (
            len(token) < _MIN_TOKEN_LENGTH
            or not all("!" <= character <= "~" for character in token)
        ):
            # The message leaves the token out: it may end up in a log.
            raise ValueError(
                f"`token` must be at least {_MIN_TOKEN_LENGTH} visible ASCII "
                f"characters. Received: {len(token)} characters"
            )
        if requests_per_second is not None and not (
            isinstance(requests_per_second, numbers.Real)
            and requests_per_second > 0
        ):
            raise ValueError(
                "`requests_per_second` must be positive. "
                f"Received: requests_per_second={requests_per_second!r}"
            )
        if burst is not None and requests_per_second is None:
            raise ValueError(
                "`burst` must come with `requests_per_second`. "
                f"Received: burst={burst}"
            )
        check_size(burst=burst)
        self._token = None if token is None else token.encode()
        self._rate = requests_per_second
        self._burst = float(burst or max(1.0, requests_per_second or 1.0))
        self._clock = clock
        self._lock = threading.Lock()
        self._left = self._burst
        self._last = clock()

    @property
    def is_open(self) -> bool:
        """Whether the gate has neither a token nor a rate to check."""
        return self._token is None and self._rate is None

    def check(self, authorization: str | None) -> None:
        """Counts a request in, or refuses it.

        Args:
            authorization: the header of this name, if there is one.

        Raises:
            tf.errors.UnauthenticatedError: the token is missing or wrong.
            tf.errors.ResourceExhaustedError: there were too many requests.
        """
        # The token first: a stranger's requests must not use up the rate of
        # those who know it.
        if self._token is not None:
            self._check_token(authorization or "")
        if self._rate is not None:
            self._check_rate(self._rate)

    def _check_token(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        # This comparison takes equally long for every wrong token: its time
        # must not tell how many characters are right.
        if scheme.lower() != _SCHEME or not hmac.compare_digest(
            token.strip().encode(errors="replace"), self._token or b""
        ):
            raise tf.errors.UnauthenticatedError(
                None,
                None,
                "The request must bring the server's token, as "
                "'Authorization: Bearer TOKEN'.",
            )

    def _check_rate(self, rate: float) -> None:
        with self._lock:
            now = self._clock()
            self._left = min(
                self._burst, self._left + (now - self._last) * rate
            )
            self._last = now
            if self._left >= 1.0:
                self._left -= 1.0
                return
        raise tf.errors.ResourceExhaustedError(
            None,
            None,
            f"More than {rate:g} requests a second. Ask again later.",
        )
