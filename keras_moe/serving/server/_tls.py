"""Certificates of the embedded model server."""

import os
import pathlib
import ssl

import grpc


class Tls:
    """A server's certificate, for gRPC and REST alike.

    Args:
        certificate: PEM file with the certificate and what it is signed by.
        private_key: PEM file with its key, without a passphrase.
        client_authority: PEM file with the authority that clients'
            certificates must be signed by; `None` asks clients for none.

    Raises:
        ValueError: a file cannot be read, or they do not fit each other.

    Example:
    ```python
    tls = keras_moe.serving.Tls("server.pem", "server.key")
    server = keras_moe.serving.Server("my_model", "serving/my_model", tls=tls)
    ```
    """

    def __init__(
        self,
        certificate: str | os.PathLike,
        private_key: str | os.PathLike,
        client_authority: str | os.PathLike | None = None,
    ):
        self._certificate = _read(certificate=certificate)
        self._key = _read(private_key=private_key)
        self._authority = None
        # Modern protocols and ciphers only, as Python chooses them.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # An empty passphrase, or a key that has one would be asked for
            # on the terminal.
            context.load_cert_chain(certificate, private_key, password="")
            if client_authority is not None:
                self._authority = _read(client_authority=client_authority)
                context.load_verify_locations(client_authority)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise ValueError(
                "`certificate`, `private_key` and `client_authority` must be "
                "PEM files that fit each other. Received: "
                f"certificate={os.fspath(certificate)!r}, "
                f"private_key={os.fspath(private_key)!r}, "
                f"client_authority={client_authority!r}: {error}"
            ) from error
        self.context = context

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Gives certificate and key as credentials of a gRPC server."""
        return grpc.ssl_server_credentials(
            [(self._key, self._certificate)],
            root_certificates=self._authority,
            require_client_auth=self._authority is not None,
        )


def _read(**paths: str | os.PathLike) -> bytes:
    ((name, path),) = paths.items()
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a PEM file. "
            f"Received: {name}={os.fspath(path)!r}: {error}"
        ) from error
