"""What lies where: on this machine, or where a whole cluster reaches it."""

import dataclasses
import os
import pathlib
from typing import Any

from keras_moe.orchestration.configuration._cluster_config import ClusterConfig
from keras_moe.orchestration.configuration._run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the files of a pipeline are; made by `find_places`.

    In a cluster, `data_dir` and what `file` returns are TFX's runtime
    parameters: a run may be given others without a new compilation.

    Example:
    ```python
    places = keras_moe.orchestration.find_places(config)
    example_gen = tfx.components.CsvExampleGen(places.data_dir)
    schema_gen = tfx.components.ImportSchemaGen(
        places.file("schema_file", "my_project/schema.pbtxt", ".")
    )
    ```

    Attributes:
        data_dir: The examples.
        pipeline_root: The components' artifacts.
        serving_dir: The pushed versions, which a model server watches.
        metadata_path: The SQLite file of ML Metadata; `None` where the cluster
            keeps the metadata.
        cluster: The cluster, if it is one.
    """

    data_dir: Any
    pipeline_root: str
    serving_dir: str
    metadata_path: str | None
    cluster: ClusterConfig | None = None

    def file(
        self,
        name: str,
        path: str | os.PathLike,
        project_dir: str | os.PathLike,
        folder: str | os.PathLike = "",
    ) -> Any:
        """Returns where components find a file of the project.

        Args:
            name: The runtime parameter in a cluster.
            path: The file on this machine.
            project_dir: The directory whose contents lie in
                `cluster.source_dir` of the image.
            folder: The folder of the project that goes into the image, if not
                all of it does.

        Raises:
            ValueError: If there is a cluster, and the file does not lie where
                the image has it.
        """
        if self.cluster is None:
            return str(path)
        held = pathlib.Path(project_dir, folder)
        if not pathlib.Path(path).is_relative_to(held):
            raise ValueError(
                f"`{name}` must lie in `{held.name}/`, which goes into the "
                f"image of the components. Received: {name}={path}"
            )
        inside = pathlib.Path(path).relative_to(project_dir).as_posix()
        source_dir = self.cluster.source_dir.rstrip("/")
        return _parameter(name, f"{source_dir}/{inside}")


def find_places(config: RunConfig) -> Places:
    """Finds the places of a configuration.

    Example:
    >>> config = keras_moe.orchestration.RunConfig(output="/build/toys")
    >>> keras_moe.orchestration.find_places(config).serving_dir
    '/build/toys/serving/model'

    Args:
        config: The configuration.
    """
    cluster = config.cluster
    if cluster is None:
        return Places(
            data_dir=str(config.data_dir),
            pipeline_root=str(config.pipeline_root),
            serving_dir=str(config.serving_dir),
            metadata_path=str(config.metadata_path),
        )
    output = cluster.output.rstrip("/")
    return Places(
        data_dir=_parameter("data_dir", f"{output}/data"),
        pipeline_root=f"{output}/pipeline",
        serving_dir=f"{output}/serving/{config.model_name}",
        metadata_path=None,
        cluster=cluster,
    )


def _parameter(name: str, default: str) -> Any:
    # Imported late: TFX takes seconds, and a run on one machine has no runtime
    # parameters.
    from tfx import v1 as tfx

    return tfx.dsl.experimental.RuntimeParameter(
        name=name, ptype=str, default=default
    )
