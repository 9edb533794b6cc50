"""What a pipeline run came to, read from the metadata and not from hope.

TFX ends a run without an error when the model was not blessed and nothing was
pushed, or when everything came from the cache. Here is the difference.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence

import tensorflow_model_analysis as tfma
from ml_metadata.proto import metadata_store_pb2

from pipelines import pipeline as pipeline_lib

# Artifacts by output key, as they stand in the metadata.
Outputs = Mapping[str, Sequence[metadata_store_pb2.Artifact]]

_METRICS = (
    pipeline_lib.PHONEME_ERROR_RATE,
    pipeline_lib.WORD_ERROR_RATE,
    pipeline_lib.WORD_ERROR_RATE_STRICT,
)


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
        metrics: Error rates on the test split.
        pushed: The version directory that holds the model, or `None`.
        reason: Why nothing is pushed, in one sentence; empty if it is.
        needs_push: Whether the cache has a blessed model that a server would
            not serve: its version was removed, or a newer one lies beside it.
    """

    runs: tuple[ComponentRun, ...]
    metrics: Mapping[str, float]
    pushed: pathlib.Path | None
    reason: str
    needs_push: bool = False

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


def read_outcome(
    runs: Sequence[ComponentRun], max_phoneme_error_rate: float
) -> Outcome:
    """Judges a finished run.

    Args:
        runs: All components' runs.
        max_phoneme_error_rate: The bound that the Evaluator was given.
    """
    outputs = {run.name: run.outputs for run in runs}
    metrics = _read_metrics(_only(outputs["Evaluator"], "evaluation").uri)
    blessed = _integer(_only(outputs["Evaluator"], "blessing"), "blessed")
    artifact = _only(outputs["Pusher"], "pushed_model")
    if _integer(artifact, "pushed"):
        destination = artifact.custom_properties["pushed_destination"]
        pushed = pathlib.Path(destination.string_value)
        return Outcome(
            tuple(runs),
            metrics,
            pushed,
            reason="",
            needs_push=pushed != _newest_version(pushed.parent),
        )
    if not blessed:
        rate = metrics.get(pipeline_lib.PHONEME_ERROR_RATE, math.nan)
        reason = (
            f"the Evaluator did not bless the model: its phoneme error rate "
            f"is {rate:.2%}, and at most {max_phoneme_error_rate:.2%} is "
            "accepted"
        )
    else:
        reason = "the Pusher pushed nothing, though the model is blessed"
    return Outcome(tuple(runs), metrics, None, reason)


def _newest_version(directory: pathlib.Path) -> pathlib.Path | None:
    """Returns the complete version that a model server would serve."""
    versions = [
        path
        for path in directory.glob("*")
        if path.name.isdecimal() and (path / "saved_model.pb").is_file()
    ]
    return max(versions, key=lambda path: int(path.name), default=None)


def _read_metrics(uri: str) -> dict[str, float]:
    result = tfma.load_eval_result(uri)
    overall = result.get_metrics_for_slice()
    return {name: overall[name]["doubleValue"] for name in _METRICS}


def _only(outputs: Outputs, key: str) -> metadata_store_pb2.Artifact:
    artifacts = outputs.get(key, ())
    if len(artifacts) != 1:
        raise RuntimeError(
            f"The output {key!r} must be one artifact. "
            f"Received: {len(artifacts)}"
        )
    return artifacts[0]


def _integer(artifact: metadata_store_pb2.Artifact, name: str) -> int:
    return artifact.custom_properties[name].int_value
