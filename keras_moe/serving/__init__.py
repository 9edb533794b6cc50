"""Export, warm-up, the embedded model server and its client.

Names are loaded on first use, so that `import keras_moe.serving` needs neither
gRPC nor the TensorFlow Serving API classes (the `[serving]` extra).
"""

import importlib
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from keras_moe.serving.client import Client as Client
    from keras_moe.serving.request_log import RequestLog as RequestLog
    from keras_moe.serving.rollout import Rollout as Rollout
    from keras_moe.serving.saved_model import export as export
    from keras_moe.serving.server import Server as Server
    from keras_moe.serving.serving_error import ServingError as ServingError
    from keras_moe.serving.tls import Tls as Tls
    from keras_moe.serving.warmup import (
        write_warmup_requests as write_warmup_requests,
    )

_MODULES = {
    "Client": "keras_moe.serving.client",
    "RequestLog": "keras_moe.serving.request_log",
    "Rollout": "keras_moe.serving.rollout",
    "Server": "keras_moe.serving.server",
    "ServingError": "keras_moe.serving.serving_error",
    "Tls": "keras_moe.serving.tls",
    "export": "keras_moe.serving.saved_model",
    "write_warmup_requests": "keras_moe.serving.warmup",
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
