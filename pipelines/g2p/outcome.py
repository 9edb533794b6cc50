"""What a pipeline run came to, read from the metadata and not from hope.

TFX ends a run without an error when the model was not blessed and nothing was
pushed, or when everything came from the cache. Here is the difference.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

from ml_metadata.proto import metadata_store_pb2

from keras_moe.components import read_evaluation
from keras_moe.components import read_failures
from keras_moe.serving import newest_version

# Artifacts by output key, as they stand in the metadata.
Outputs = Mapping[str, Sequence[metadata_store_pb2.Artifact]]

# The custom property that says why nothing was pushed.
REASON = "reason"
_SERVING_DIRECTORY = "Format-Serving"


@dataclasses.dataclass(frozen=True)
class ComponentRun:
    """One component's part in a run.

    Attributes:
        name: The component.
        cached: Whether an earlier run's outputs were taken.
        seconds: The time it took.
        outputs: What it made.
    """

    name: str
    cached: bool
    seconds: float
    outputs: Outputs


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        runs: The components, in order.
        evaluation: Slice to metric to value, on the test split.
        data_dir: The span of examples that was used.
        pushed: The version directory that holds the model, or `None`.
        reason: Why nothing is pushed, in one sentence; empty if it is.
        needs_push: Whether the cache has a blessed model that a server would
            not serve: its version was removed, or a newer one lies beside it.
    """

    runs: tuple[ComponentRun, ...]
    evaluation: Mapping[str, Mapping[str, float]]
    data_dir: pathlib.Path
    pushed: pathlib.Path | None
    reason: str
    needs_push: bool = False

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures on the whole of the test split."""
        return self.evaluation["overall"]

    @property
    def pushed_by_earlier_run(self) -> bool:
        """Whether the model was pushed before and did not change."""
        return self.pushed is not None and self.run_of("Pusher").cached

    def run_of(self, name: str) -> ComponentRun:
        """Returns the run of one component."""
        for run in self.runs:
            if run.name == name:
                return run
        ran = ", ".join(run.name for run in self.runs) or "none"
        raise KeyError(f"No component {name!r} ran. Received: {ran}")

    def artifact(self, name: str, key: str) -> metadata_store_pb2.Artifact:
        """Returns the one artifact of a component's output."""
        return _only(self.run_of(name).outputs, key)

    def saved_model(self, name: str, key: str) -> pathlib.Path:
        """Returns the SavedModel in a component's output."""
        return pathlib.Path(self.artifact(name, key).uri, _SERVING_DIRECTORY)


def read_outcome(
    runs: Sequence[ComponentRun], data_dir: pathlib.Path
) -> Outcome:
    """Judges a finished run.

    Args:
        runs: All components' runs.
        data_dir: The span of examples that was used.
    """
    outputs = {run.name: run.outputs for run in runs}
    evaluation = _only(outputs["Evaluator"], "evaluation").uri
    figures = read_evaluation(evaluation)
    artifact = _only(outputs["Pusher"], "pushed_model")
    if artifact.custom_properties["pushed"].int_value:
        destination = artifact.custom_properties["pushed_destination"]
        pushed = pathlib.Path(destination.string_value)
        return Outcome(
            tuple(runs),
            figures,
            data_dir,
            pushed,
            reason="",
            needs_push=pushed != newest_version(pushed.parent),
        )
    reason = artifact.custom_properties[REASON].string_value
    blessing = _only(outputs["Evaluator"], "blessing")
    if not blessing.custom_properties["blessed"].int_value:
        reason = "the Evaluator did not bless the model: " + "; ".join(
            read_failures(evaluation)
        )
    return Outcome(tuple(runs), figures, data_dir, None, reason)


def _only(outputs: Outputs, key: str) -> metadata_store_pb2.Artifact:
    artifacts = outputs.get(key, ())
    if len(artifacts) != 1:
        raise RuntimeError(
            f"The output {key!r} must be one artifact. "
            f"Received: {len(artifacts)}"
        )
    return artifacts[0]
