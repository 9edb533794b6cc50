"""Where a pipeline lies, and on what it runs, in a cluster."""

from typing import Annotated

from pydantic import Field

from keras_moe.orchestration.configuration._resources import Resources
from keras_moe.orchestration.configuration._section import Section


class ClusterConfig(Section):
    """Where a pipeline lies, and on what it runs, in Kubeflow or Vertex.

    Example:
    >>> cluster = keras_moe.orchestration.ClusterConfig(
    ...     output="gs://my-bucket/toys", image="my-registry/toys:1"
    ... )
    >>> cluster.source_dir
    '/project'

    Attributes:
        output: What all containers reach, such as `gs://bucket/toys`, or a
            path of a volume that they share. Examples are in `data` of it.
        image: Of the components.
        images: Other images, such as one with drivers, by component.
        resources: By component; one that is not named gets the cluster's
            default.
        source_dir: Where the project lies in the image.
    """

    output: Annotated[str, Field(pattern=r"^([a-z0-9]+://[^/]|/)")]
    image: Annotated[str, Field(min_length=1)]
    images: dict[str, str] = Field(default_factory=dict)
    resources: dict[str, Resources] = Field(default_factory=dict)
    source_dir: Annotated[str, Field(pattern="^/")] = "/project"
