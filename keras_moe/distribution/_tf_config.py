"""The processes that work together, as `TF_CONFIG` names them."""

import json
import os
from typing import NamedTuple


class TFConfig(NamedTuple):
    """A cluster, and the place in it that this process has.

    Attributes:
        cluster: name of a job to the addresses of its tasks, `"host:port"`.
        job: of this process.
        task: number of this process among those of its job.
    """

    cluster: dict[str, list[str]]
    job: str
    task: int


def read_tf_config() -> TFConfig:
    """Reads the environment variable `TF_CONFIG`.

    Raises:
        ValueError: if it is missing or malformed, has no workers, or does not
            name a task of its cluster.
    """
    text = os.environ.get("TF_CONFIG")
    rule = (
        "The environment variable `TF_CONFIG` must be JSON of the form "
        '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
        '"worker", "index": 0}}'
    )
    try:
        config = json.loads(text) if text else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{rule}. Received: {text!r} ({error}).") from error
    received = f"Received: TF_CONFIG={text!r}."
    if not isinstance(config, dict):
        raise ValueError(f"{rule}. {received}")
    cluster, task = config.get("cluster"), config.get("task")
    if not isinstance(cluster, dict) or not cluster.get("worker"):
        raise ValueError(f'{rule}: it has no "cluster" of "worker". {received}')
    if (
        not isinstance(task, dict)
        or task.get("type") not in cluster
        or not isinstance(task.get("index"), int)
    ):
        raise ValueError(
            f'{rule}: its "task" must have the type of a job of the cluster, '
            f"and an index. {received}"
        )
    if not 0 <= task["index"] < len(cluster[task["type"]]):
        raise ValueError(
            f'{rule}: the index of its "task" must be below '
            f"{len(cluster[task['type']])}. {received}"
        )
    return TFConfig(cluster, task["type"], task["index"])
