"""Compiles a pipeline for Kubeflow Pipelines and Vertex AI."""

import json
import os
import pathlib
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Generic
from typing import TypeVar

import yaml

from keras_moe.atomic_file import atomic_file
from keras_moe.orchestration.configuration._cluster_config import ClusterConfig
from keras_moe.orchestration.configuration._command_line import CommandLine
from keras_moe.orchestration.configuration._resources import Resources
from keras_moe.orchestration.configuration._run_config import RunConfig
from keras_moe.orchestration.running._find_function import find_function
from keras_moe.start_up import start_up_messages_left_out

SCHEMA_VERSIONS = ("2.0", "2.1")

ConfigT = TypeVar("ConfigT", bound=RunConfig)


class KubeflowRunner(Generic[ConfigT]):
    """Compiles a pipeline for Kubeflow Pipelines and Vertex AI (extra `[kfp]`).

    The file that it writes is what `kfp.Client` or Vertex's `PipelineJob` runs.

    Example:
    ```python
    RUNNER = keras_moe.orchestration.KubeflowRunner(
        "my_project.pipeline.create_pipeline"
    )

    if __name__ == "__main__":
        prog = "python -m my_project.kubeflow_v2_runner"
        sys.exit(RUNNER.main(COMMAND_LINE, prog))
    ```

    Args:
        create_pipeline: From a configuration with a `cluster` to a
            `tfx.dsl.Pipeline`, as `make_pipeline` makes it: the function, or
            its import path `"package.module.function"`.
        prepare: From the configuration and a directory to the folder of
            examples that it wrote there, to be copied to where the cluster
            reads; behind the flag `--prepare`.
    """

    def __init__(
        self,
        create_pipeline: str | Callable[[ConfigT], Any],
        prepare: Callable[[ConfigT, pathlib.Path], pathlib.Path] | None = None,
    ) -> None:
        self._create_pipeline = create_pipeline
        self._prepare = prepare

    def compile(
        self,
        config: ConfigT,
        path: str | os.PathLike,
        schema_version: str = "2.1",
    ) -> dict[str, Any]:
        """Writes the specification of the pipeline.

        Args:
            config: The configuration, with a `cluster`.
            path: Where to: `.json`, a job for Vertex, or `.yaml`, the
                specification alone, for Kubeflow Pipelines.
            schema_version: `"2.1"`, or `"2.0"`, a job for older clusters.

        Returns:
            The job.

        Raises:
            ImportError: If the extra `[kfp]` is not installed.
            ValueError: If the configuration does not fit a cluster.
        """
        path = pathlib.Path(path)
        _check(path, schema_version)
        cluster = config.cluster
        if cluster is None:
            raise ValueError(
                "`cluster` must be configured: it names the image of the "
                "components and what all of them reach."
            )
        try:
            from tfx.orchestration.kubeflow.v2 import (
                kubeflow_v2_dag_runner as kfp,
            )
        except ImportError as error:
            raise ImportError(
                "Compiling for a cluster needs the extra [kfp]: pip install "
                "'keras-moe[kfp]'."
            ) from error
        pipeline = find_function(self._create_pipeline)(config)
        _give_resources(pipeline, cluster)
        image: Any = cluster.image
        if cluster.images:
            image = {
                kfp._DEFAULT_IMAGE_PATH_KEY: cluster.image,
                **cluster.images,
            }
        runner = kfp.KubeflowV2DagRunner(
            kfp.KubeflowV2DagRunnerConfig(
                display_name=config.pipeline_name,
                default_image=image,
                use_pipeline_spec_2_1=schema_version == "2.1",
            )
        )
        defaults = _runtime_parameters(pipeline)
        job = runner.run(pipeline, parameter_values=defaults, write_out=False)
        spec = job["pipelineSpec"]
        # TFX leaves the pipeline root and the parameters' defaults out of the
        # specification; whoever runs the compiled file has no other place to
        # find them.
        spec["defaultPipelineRoot"] = pipeline.pipeline_info.pipeline_root
        if schema_version == "2.1":
            given = spec["root"].get("inputDefinitions", {})
            for name, value in defaults.items():
                given["parameters"][name]["defaultValue"] = value
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            partial.write_text(
                json.dumps(job, sort_keys=True)
                if path.suffix == ".json"
                else yaml.safe_dump(spec)
            )
        return job

    def main(
        self,
        command_line: CommandLine[ConfigT],
        prog: str,
        description: str | None = None,
        argv: Sequence[str] | None = None,
    ) -> int:
        """Compiles as the flags say; returns the exit code.

        Args:
            command_line: The pipeline's flags.
            prog: The command, as it is typed.
            description: What it does, for `--help`.
            argv: The flags; `None` for those of the process.
        """
        parser = command_line.parser(prog, description)
        name = command_line.config_class.pipeline_name
        parser.add_argument(
            "--file",
            type=pathlib.Path,
            default=pathlib.Path(f"build/{name}.json"),
            help=f"what to write (default: build/{name}.json)",
        )
        parser.add_argument(
            "--schema-version",
            choices=SCHEMA_VERSIONS,
            default="2.1",
            help="of Kubeflow's specification of pipelines (default: 2.1)",
        )
        if self._prepare is not None:
            parser.add_argument(
                "--prepare",
                type=pathlib.Path,
                metavar="DIRECTORY",
                help="also prepare examples in this directory, to be copied "
                "to data/ of the cluster's output",
            )
        arguments, config = command_line.parse(parser, argv)
        try:
            with start_up_messages_left_out():
                self.compile(config, arguments.file, arguments.schema_version)
            print(f"Wrote {arguments.file}")
            if self._prepare is not None and arguments.prepare is not None:
                prepared = self._prepare(config, arguments.prepare)
                print(f"Prepared {prepared}")
        except (ImportError, OSError, ValueError) as error:
            print(f"Stopped. {error}", file=sys.stderr)
            return 1
        return 0


def _check(path: pathlib.Path, schema_version: str) -> None:
    if schema_version not in SCHEMA_VERSIONS:
        raise ValueError(
            f"`schema_version` must be one of {', '.join(SCHEMA_VERSIONS)}. "
            f"Received: schema_version={schema_version}"
        )
    if path.suffix not in (".json", ".yaml"):
        raise ValueError(
            f"`path` must end in .json or .yaml. Received: path={path}"
        )
    if schema_version == "2.0" and path.suffix == ".yaml":
        raise ValueError(
            "`path` must end in .json for the schema 2.0. Received: "
            f"path={path}"
        )


def _give_resources(pipeline: Any, cluster: ClusterConfig) -> None:
    from tfx.dsl.components.base.base_component import BaseComponent

    known = [c.id for c in pipeline.components if isinstance(c, BaseComponent)]
    _require_known("cluster.images", cluster.images, known)
    _require_known("cluster.resources", cluster.resources, known)
    for component in pipeline.components:
        if component.id in cluster.resources:
            component.with_platform_config(
                _resource_spec(cluster.resources[component.id])
            )


def _require_known(
    field: str, named: Mapping[str, Any], known: list[str]
) -> None:
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise ValueError(
            f"`{field}` must name components of the pipeline: "
            f"{', '.join(sorted(known))}. Received: {', '.join(unknown)}"
        )


def _resource_spec(resources: Resources) -> Any:
    from kfp.pipeline_spec import pipeline_spec_pb2

    container = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec
    spec = container.ResourceSpec(
        cpu_limit=resources.cpu, memory_limit=resources.memory_gib
    )
    if resources.accelerator is not None:
        spec.accelerator.type = resources.accelerator
        spec.accelerator.count = resources.accelerator_count
    return spec


def _runtime_parameters(pipeline: Any) -> dict[str, Any]:
    """Returns the pipeline's runtime parameters, with their defaults."""
    from tfx.orchestration.data_types import RuntimeParameter

    return {
        value.name: value.default
        for component in pipeline.components
        for value in component.exec_properties.values()
        if isinstance(value, RuntimeParameter)
    }
