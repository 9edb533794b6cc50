"""One component's part in a run."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class ComponentRun:
    """One component's part in a run.

    Example:
    >>> run = keras_moe.orchestration.ComponentRun("Trainer", False, 3.5, {})
    >>> run.cached
    False

    Attributes:
        name: The component.
        cached: Whether an earlier run's outputs were taken.
        seconds: The time it took.
        outputs: Output key to the artifacts that it made, as ML Metadata has
            them (`metadata_store_pb2.Artifact`).
    """

    name: str
    cached: bool
    seconds: float
    outputs: Mapping[str, Sequence[Any]]

    def artifact(self, key: str) -> Any:
        """Returns the one artifact of an output.

        Args:
            key: The output's key.

        Raises:
            RuntimeError: If the output is not exactly one artifact.
        """
        artifacts = self.outputs.get(key, ())
        if len(artifacts) != 1:
            raise RuntimeError(
                f"The output {key!r} of {self.name} must be one artifact. "
                f"Received: {len(artifacts)}"
            )
        return artifacts[0]
