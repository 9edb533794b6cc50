"""Compiles the pipeline for Kubeflow Pipelines or for Vertex.

    python -m pipelines.search.kubeflow_v2_runner --config cluster.yaml

Needs the extra [kfp]. The configuration must name a `cluster`.
"""

import pathlib
import sys

from keras_moe.orchestration import KubeflowRunner
from pipelines.search.configs import COMMAND_LINE
from pipelines.search.configs import PipelineConfig
from pipelines.search.data.prepare import prepare_synsets


def prepare(config: PipelineConfig, directory: pathlib.Path) -> pathlib.Path:
    """Prepares a span of examples to be copied; returns its folder."""
    return prepare_synsets(config.data, directory).directory


RUNNER = KubeflowRunner("pipelines.search.pipeline.create_pipeline", prepare)


def main(argv: list[str] | None = None) -> int:
    """Compiles as the flags say; returns the exit code."""
    prog = "python -m pipelines.search.kubeflow_v2_runner"
    return RUNNER.main(COMMAND_LINE, prog, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
