"""Closes a connection so that its last answer arrives."""

import asyncio
from typing import Any

_LINGER_SECONDS = 2.0
_ANSWER_SECONDS = 60.0


class LingeringTransport:
    """A transport that says it is done, and closes a little later.

    Closing at once while bytes are still arriving would reset the connection,
    and a client in the middle of sending would never see the answer. Whoever
    is called with these bytes throws them away.

    Args:
        transport: the connection.

    Attributes:
        lingers: whether more may arrive; `False` closes at once.
    """

    def __init__(self, transport: asyncio.Transport):
        self._transport = transport
        self._is_done = False
        self._deadline = 0.0
        self.lingers = True
        # Called for each request.
        self.write = transport.write
        self.get_extra_info = transport.get_extra_info

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more will be answered."""
        return self._is_done or self._transport.is_closing()

    def close(self) -> None:
        """Sends what is left, and then that there is no more."""
        if self.is_closing():
            return
        self._is_done = True
        if not self.lingers:
            self._transport.close()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + _ANSWER_SECONDS
        try:
            if self._transport.can_write_eof():  # TLS cannot
                self._transport.write_eof()
        except OSError:  # nobody is there
            self._transport.abort()
            return
        # Reading may have been paused, and tells that the client has closed.
        self._transport.resume_reading()
        loop.call_later(_LINGER_SECONDS, self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._transport.is_closing():
            return
        if not self._transport.get_write_buffer_size():
            self._transport.close()
        elif loop.time() < self._deadline:
            loop.call_later(_LINGER_SECONDS, self._end, loop)
        else:
            self._transport.abort()
