"""Export, warm-up, the embedded model server and its client.

Names are loaded on first use, so that `import keras_moe.serving` needs neither
gRPC nor the TensorFlow Serving API classes (the `[serving]` extra).
"""

import importlib
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from keras_moe.serving.client._client import Client as Client
    from keras_moe.serving.client._serving_error import (
        ServingError as ServingError,
    )
    from keras_moe.serving.exporting._saved_model import export as export
    from keras_moe.serving.exporting._warmup import (
        write_warmup_requests as write_warmup_requests,
    )
    from keras_moe.serving.server._request_log import RequestLog as RequestLog
    from keras_moe.serving.server._server import Server as Server
    from keras_moe.serving.server._tls import Tls as Tls
    from keras_moe.serving.versions._push_version import (
        newest_version as newest_version,
    )
    from keras_moe.serving.versions._push_version import (
        push_version as push_version,
    )
    from keras_moe.serving.versions._rollout import Rollout as Rollout

_MODULES = {
    "Client": "keras_moe.serving.client._client",
    "RequestLog": "keras_moe.serving.server._request_log",
    "Rollout": "keras_moe.serving.versions._rollout",
    "Server": "keras_moe.serving.server._server",
    "ServingError": "keras_moe.serving.client._serving_error",
    "Tls": "keras_moe.serving.server._tls",
    "export": "keras_moe.serving.exporting._saved_model",
    "newest_version": "keras_moe.serving.versions._push_version",
    "push_version": "keras_moe.serving.versions._push_version",
    "write_warmup_requests": "keras_moe.serving.exporting._warmup",
}
_EXTRA = ("google.protobuf", "grpc", "prometheus_client", "tensorflow_serving")

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(_EXTRA):
            raise
        raise ImportError(
            f"`keras_moe.serving.{name}` needs the module {error.name!r}. "
            "Install it with `pip install keras-moe[serving]`."
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
