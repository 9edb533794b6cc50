"""Compiles the pipeline for Kubeflow Pipelines and Vertex AI.

    python -m pipelines.g2p.kubeflow_v2_runner --config cluster.yaml

The file that it writes is what `kfp.Client` or Vertex's `PipelineJob` runs, in
the image that `deploy/components.Dockerfile` makes.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import yaml

from keras_moe.atomic_file import atomic_file
from pipelines.g2p import command_line
from pipelines.g2p import quiet
from pipelines.g2p.configs import PIPELINE_NAME
from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.configs import Resources
from pipelines.g2p.data.dictionary import find_cmu_dictionary
from pipelines.g2p.data.prepare import prepare_span
from pipelines.g2p.data.prepare import span_directory

SCHEMA_VERSIONS = ("2.0", "2.1")


def compile_pipeline(
    config: PipelineConfig, path: pathlib.Path, schema_version: str = "2.1"
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
    if config.infra_image_tags:
        raise ValueError(
            "`infra_image_tags` needs a container engine, which a component in "
            "a cluster has not: leave it out, for the embedded server. "
            f"Received: {', '.join(config.infra_image_tags)}"
        )
    cluster = config.cluster
    if cluster is None:
        raise ValueError(
            "`cluster` must be configured: it names the image of the "
            "components and what all of them reach. See "
            "pipelines/deploy/cluster.yaml."
        )
    try:
        from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as kfp
    except ImportError as error:
        raise ImportError(
            "Compiling for a cluster needs the extra [kfp]: pip install "
            "'keras-moe[kfp]'."
        ) from error
    # Imported late, as TFX is.
    from tfx.dsl.components.base.base_component import BaseComponent
    from tfx.orchestration.data_types import RuntimeParameter

    from pipelines.g2p.pipeline import create_pipeline
    from pipelines.g2p.places import find_places

    pipeline = create_pipeline(config)
    known = [c.id for c in pipeline.components if isinstance(c, BaseComponent)]
    _require_known("cluster.images", cluster.images, known)
    _require_known("cluster.resources", cluster.resources, known)
    for component in pipeline.components:
        if component.id in cluster.resources:
            component.with_platform_config(
                _resource_spec(cluster.resources[component.id])
            )
    defaults = {
        parameter.name: parameter.default
        for parameter in vars(find_places(config)).values()
        if isinstance(parameter, RuntimeParameter)
    }
    image: Any = cluster.image
    if cluster.images:
        image = {kfp._DEFAULT_IMAGE_PATH_KEY: cluster.image, **cluster.images}
    runner = kfp.KubeflowV2DagRunner(
        kfp.KubeflowV2DagRunnerConfig(
            display_name=PIPELINE_NAME,
            default_image=image,
            use_pipeline_spec_2_1=schema_version == "2.1",
        )
    )
    job = runner.run(pipeline, parameter_values=defaults, write_out=False)
    spec = job["pipelineSpec"]
    # TFX leaves both out, and a file of the specification alone has nothing
    # else to say them.
    spec["defaultPipelineRoot"] = pipeline.pipeline_info.pipeline_root
    if schema_version == "2.1":
        given = spec["root"]["inputDefinitions"]["parameters"]
        for name, value in defaults.items():
            given[name]["defaultValue"] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as partial:
        partial.write_text(
            json.dumps(job, sort_keys=True)
            if path.suffix == ".json"
            else yaml.safe_dump(spec)
        )
    return job


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


def _prepare(config: PipelineConfig, directory: pathlib.Path) -> pathlib.Path:
    data = config.data
    span, _ = prepare_span(
        data.dictionary or find_cmu_dictionary(),
        directory,
        keep_stress=data.keep_stress,
        max_words=data.max_words,
        fractions=data.fractions,
    )
    return span_directory(directory, span)


def main(argv: list[str] | None = None) -> int:
    """Compiles as the flags say; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.g2p.kubeflow_v2_runner", description=__doc__
    )
    command_line.add_arguments(parser)
    parser.add_argument(
        "--file",
        type=pathlib.Path,
        default=pathlib.Path(f"build/{PIPELINE_NAME}.json"),
        help="what to write (default: build/g2p.json)",
    )
    parser.add_argument(
        "--schema-version",
        choices=SCHEMA_VERSIONS,
        default="2.1",
        help="of Kubeflow's specification of pipelines (default: 2.1)",
    )
    parser.add_argument(
        "--prepare",
        type=pathlib.Path,
        metavar="DIRECTORY",
        help="also prepare a span of examples in this directory, to be copied "
        "to data/ of the cluster's output",
    )
    arguments, config = command_line.parse(parser, argv)
    try:
        with quiet.start_up_messages_left_out():
            compile_pipeline(config, arguments.file, arguments.schema_version)
        print(f"Wrote {arguments.file}")
        if arguments.prepare is not None:
            print(f"Prepared {_prepare(config, arguments.prepare)}")
    except (ImportError, OSError, ValueError) as error:
        print(f"Stopped. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
