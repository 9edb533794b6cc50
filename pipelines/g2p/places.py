"""What lies where: on this machine, or where a whole cluster reaches it."""

import dataclasses
import pathlib
from typing import Any

from tfx import v1 as tfx

from pipelines.g2p.configs import MODEL_NAME
from pipelines.g2p.configs import ClusterConfig
from pipelines.g2p.configs import PipelineConfig

_PIPELINES = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Places:
    """Places, as the components are told.

    Attributes:
        data_dir: the spans of split TFRecord files.
        schema_file: what the examples must look like; `None` to infer it.
        pipeline_root: the components' artifacts.
        serving_dir: the pushed versions, which a model server watches.
        metadata_path: the SQLite file of ML Metadata; `None` where the cluster
            keeps the metadata.
    """

    data_dir: Any
    schema_file: Any
    pipeline_root: str
    serving_dir: str
    metadata_path: str | None


def find_places(config: PipelineConfig) -> Places:
    """Finds the places of a configuration.

    In a cluster, `data_dir` and `schema_file` are runtime parameters: a run may
    be given others without a new compilation.

    Args:
        config: The configuration.
    """
    if config.cluster is not None:
        return _in_cluster(config, config.cluster)
    schema_file = config.data.schema_file
    return Places(
        data_dir=str(config.data_dir),
        schema_file=None if schema_file is None else str(schema_file),
        pipeline_root=str(config.pipeline_root),
        serving_dir=str(config.serving_dir),
        metadata_path=str(config.metadata_path),
    )


def _in_cluster(config: PipelineConfig, cluster: ClusterConfig) -> Places:
    output = cluster.output.rstrip("/")
    schema_file = config.data.schema_file
    return Places(
        data_dir=_parameter("data_dir", f"{output}/data"),
        schema_file=(
            None
            if schema_file is None
            else _parameter("schema_file", _in_image(schema_file, cluster))
        ),
        pipeline_root=f"{output}/pipeline",
        serving_dir=f"{output}/serving/{MODEL_NAME}",
        metadata_path=None,
    )


def _in_image(path: pathlib.Path, cluster: ClusterConfig) -> str:
    """Returns where a file of `pipelines/` lies in the image.

    Raises:
        ValueError: if it is not of `pipelines/`.
    """
    if not path.is_relative_to(_PIPELINES):
        raise ValueError(
            "`data.schema_file` must lie in `pipelines/`, which goes into the "
            f"image of the components. Received: {path}"
        )
    inside = path.relative_to(_PIPELINES.parent).as_posix()
    return f"{cluster.source_dir.rstrip('/')}/{inside}"


def _parameter(name: str, default: str) -> Any:
    return tfx.dsl.experimental.RuntimeParameter(
        name=name, ptype=str, default=default
    )
