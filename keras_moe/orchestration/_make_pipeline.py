"""Components to a pipeline, where a configuration says."""

from collections.abc import Iterable
from typing import Any

from keras_moe.orchestration._places import find_places
from keras_moe.orchestration.configuration._run_config import RunConfig


def make_pipeline(config: RunConfig, components: Iterable[Any]) -> Any:
    """Makes a pipeline of components, for this machine or for a cluster.

    Example:
    ```python
    def create_pipeline(config):
        places = keras_moe.orchestration.find_places(config)
        example_gen = tfx.components.CsvExampleGen(places.data_dir)
        ...
        return keras_moe.orchestration.make_pipeline(
            config, [example_gen, trainer, pusher]
        )
    ```

    Args:
        config: Names the pipeline, and says where it lies and how it runs.
        components: TFX's, in any order.

    Returns:
        A `tfx.dsl.Pipeline`.
    """
    # Imported late: TFX takes seconds.
    from tfx import v1 as tfx

    places = find_places(config)
    metadata = None
    if places.metadata_path is not None:
        metadata = tfx.orchestration.metadata.sqlite_metadata_connection_config(
            places.metadata_path
        )
    return tfx.dsl.Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=places.pipeline_root,
        metadata_connection_config=metadata,
        components=list(components),
        enable_cache=config.enable_cache,
        beam_pipeline_args=list(config.beam_pipeline_args),
    )
