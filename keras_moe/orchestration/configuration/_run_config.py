"""The fields that every pipeline's configuration has."""

import pathlib
from typing import ClassVar

from keras_moe.orchestration.configuration._cluster_config import ClusterConfig
from keras_moe.orchestration.configuration._local_path import LocalPath
from keras_moe.orchestration.configuration._section import Section


class RunConfig(Section):
    """What every pipeline's configuration has. Derive a project's own.

    `model_copy(update=...)` makes variations.

    Example:
    >>> class ToyConfig(keras_moe.orchestration.RunConfig):
    ...     pipeline_name = "toys"
    ...     model_name = "toys"
    ...     steps: int = 100
    >>> config = ToyConfig(output="build/toys", steps=20)
    >>> config.serving_dir.relative_to(config.output).as_posix()
    'serving/toys'

    Attributes:
        output: Where all that is made goes: data, metadata, models.
        beam_pipeline_args: Flags for Beam, such as `--runner=FlinkRunner`.
        enable_cache: Whether components whose inputs did not change are
            skipped.
        cluster: What `KubeflowRunner` needs; `None` on one machine.
        pipeline_name: A class attribute: the pipeline in the metadata.
        model_name: A class attribute: the model in a model server.
    """

    pipeline_name: ClassVar[str] = "pipeline"
    model_name: ClassVar[str] = "model"

    output: LocalPath = pathlib.Path("build/pipeline")
    # Given any, TFX packs its own sources for the workers of each component,
    # which takes seconds, even where all run in this process.
    beam_pipeline_args: tuple[str, ...] = ()
    enable_cache: bool = True
    cluster: ClusterConfig | None = None

    @property
    def data_dir(self) -> pathlib.Path:
        """Where the examples are."""
        return self.output / "data"

    @property
    def pipeline_root(self) -> pathlib.Path:
        """Where the components' artifacts are."""
        return self.output / "pipeline"

    @property
    def metadata_path(self) -> pathlib.Path:
        """The SQLite file of ML Metadata."""
        return self.output / "metadata.sqlite"

    @property
    def serving_dir(self) -> pathlib.Path:
        """The directory of pushed versions that a model server watches."""
        return self.output / "serving" / self.model_name
