"""Compiles the pipeline for Kubeflow Pipelines and Vertex AI.

    python -m pipelines.g2p.kubeflow_v2_runner --config cluster.yaml

The file that it writes is what `kfp.Client` or Vertex's `PipelineJob` runs, in
the image that `pipelines/deploy/components.Dockerfile` makes. An example of
`cluster.yaml` is in `pipelines/deploy`.
"""

import pathlib
import sys

from keras_moe.orchestration import KubeflowRunner
from pipelines.g2p.configs import COMMAND_LINE
from pipelines.g2p.configs import PipelineConfig
from pipelines.g2p.data.prepare import prepare_words


def prepare(config: PipelineConfig, directory: pathlib.Path) -> pathlib.Path:
    """Prepares a span of examples to be copied; returns its folder."""
    return prepare_words(config.data, directory).directory


RUNNER = KubeflowRunner("pipelines.g2p.pipeline.create_pipeline", prepare)


def main(argv: list[str] | None = None) -> int:
    """Compiles as the flags say; returns the exit code."""
    prog = "python -m pipelines.g2p.kubeflow_v2_runner"
    return RUNNER.main(COMMAND_LINE, prog, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
