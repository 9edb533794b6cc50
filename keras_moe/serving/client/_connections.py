"""The ways to a server: a gRPC channel, an opener of URLs."""

import os
import pathlib
import ssl
import urllib.request
from typing import Any

import grpc

MAX_ANSWER_BYTES = 1 << 30


def open_channel(
    address: str, authority: str | os.PathLike | None
) -> grpc.Channel:
    """Opens a channel, over TLS where an authority is given."""
    options = [("grpc.max_receive_message_length", MAX_ANSWER_BYTES)]
    if authority is None:
        return grpc.insecure_channel(address, options)
    root = pathlib.Path(authority).read_bytes()
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(root), options
    )


def url_opener(
    authority: str | os.PathLike | None,
) -> urllib.request.OpenerDirector:
    """Makes what opens URLs, over TLS where an authority is given."""
    # The server is named outright: no proxy has a say.
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if authority is not None:
        context = ssl.create_default_context(cafile=os.fspath(authority))
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)
