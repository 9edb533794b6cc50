"""The model server of an InfraValidator, without a process of its own."""

import os

from keras_moe.serving import Server


class ServerInProcess:
    """Stands for an `EmbeddedServerRunner` where the process is no matter."""

    def __init__(self, model_path, model_name):
        self._server = Server(
            model_name,
            os.path.dirname(model_path),
            rest_port=None,
            poll_seconds=0.05,
        )

    def Start(self):
        self._server.__enter__()

    def WaitUntilRunning(self, deadline):
        pass

    def GetEndpoint(self):
        return f"127.0.0.1:{self._server.grpc_port}"

    def GetLogs(self):
        return "said this\nand that\n"

    def Stop(self):
        self._server.__exit__(None, None, None)
