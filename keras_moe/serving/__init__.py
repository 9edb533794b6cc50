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
    from keras_moe.serving.exporting._export import export as export
    from keras_moe.serving.exporting._export_endpoints import (
        export_endpoints as export_endpoints,
    )
    from keras_moe.serving.exporting._export_search import (
        export_search as export_search,
    )
    from keras_moe.serving.exporting._write_page import write_page as write_page
    from keras_moe.serving.exporting._write_warmup_requests import (
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

_ROOM = "keras_moe.serving"
_MODULES = {
    "Client": f"{_ROOM}.client._client",
    "RequestLog": f"{_ROOM}.server._request_log",
    "Rollout": f"{_ROOM}.versions._rollout",
    "Server": f"{_ROOM}.server._server",
    "ServingError": f"{_ROOM}.client._serving_error",
    "Tls": f"{_ROOM}.server._tls",
    "export": f"{_ROOM}.exporting._export",
    "export_endpoints": f"{_ROOM}.exporting._export_endpoints",
    "export_search": f"{_ROOM}.exporting._export_search",
    "newest_version": f"{_ROOM}.versions._push_version",
    "push_version": f"{_ROOM}.versions._push_version",
    "write_page": f"{_ROOM}.exporting._write_page",
    "write_warmup_requests": f"{_ROOM}.exporting._write_warmup_requests",
}
_EXTRA = (
    "google.protobuf",
    "grpc",
    "grpc_health",
    "httptools",
    "orjson",
    "prometheus_client",
    "starlette",
    "tensorflow_serving",
    "uvicorn",
)

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
