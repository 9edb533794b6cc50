"""The result of a pipeline run, read from the metadata.

TFX ends a run without an error when the model was not blessed and nothing was
pushed, and when everything came from the cache. `Outcome` tells these apart.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keras_moe.orchestration.running._component_run import ComponentRun

# The custom property that says why nothing was pushed.
REASON = "reason"
_SERVING_DIRECTORY = "Format-Serving"
_OVERALL = "overall"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Example:
    >>> run = keras_moe.orchestration.ComponentRun("Pusher", True, 0.1, {})
    >>> outcome = keras_moe.orchestration.Outcome(
    ...     runs=(run,), pushed=None, reason="the Evaluator did not bless it"
    ... )
    >>> outcome.run_of("Pusher").cached
    True
    >>> outcome.pushed_by_earlier_run
    False

    Attributes:
        runs: The components, in order.
        pushed: The version directory that holds the model, or `None`.
        reason: Why nothing is pushed, in one sentence; empty if it is.
        evaluation: Slice to metric to value, as the Evaluator measured them;
            empty if the pipeline has none.
        needs_push: Whether the cache has a blessed model that a server would
            not serve: its version was removed, or a newer one lies beside it.
        prepared: What the project's `prepare` returned, see `LocalRunner`.
        pusher: The name of the component that pushes.
    """

    runs: tuple[ComponentRun, ...]
    pushed: pathlib.Path | None
    reason: str
    evaluation: Mapping[str, Mapping[str, float]] = dataclasses.field(
        default_factory=dict
    )
    needs_push: bool = False
    prepared: Any = None
    pusher: str = "Pusher"

    @property
    def metrics(self) -> Mapping[str, float]:
        """The figures on all evaluated examples together."""
        return self.evaluation.get(_OVERALL, {})

    @property
    def pushed_by_earlier_run(self) -> bool:
        """Whether the model was pushed before and did not change."""
        return self.pushed is not None and self.run_of(self.pusher).cached

    def run_of(self, name: str) -> ComponentRun:
        """Returns the run of one component.

        Args:
            name: The component.

        Raises:
            KeyError: If no component of this name ran.
        """
        for run in self.runs:
            if run.name == name:
                return run
        ran = ", ".join(run.name for run in self.runs) or "none"
        raise KeyError(f"`name` must be one of {ran}. Received: name={name!r}")

    def saved_model(self, name: str, key: str) -> pathlib.Path:
        """Returns the directory of the SavedModel in a component's output.

        Args:
            name: The component.
            key: The output's key.
        """
        artifact = self.run_of(name).artifact(key)
        return pathlib.Path(artifact.uri, _SERVING_DIRECTORY)


def read_outcome(
    runs: Sequence[ComponentRun],
    pusher: str = "Pusher",
    evaluator: str = "Evaluator",
    prepared: Any = None,
) -> Outcome:
    """Judges a finished run.

    Example:
    ```python
    runner = keras_moe.orchestration.ReportingRunner()
    runner.run(create_pipeline(config))
    outcome = keras_moe.orchestration.read_outcome(runner.runs)
    ```

    Args:
        runs: All components' runs.
        pusher: The name of the component that pushes.
        evaluator: The name of the component that evaluates. A pipeline need
            not have one.
        prepared: For `Outcome.prepared`.

    Raises:
        ValueError: If no `pusher` ran.
    """
    # Imported late, as TFX is.
    from keras_moe.components import read_evaluation
    from keras_moe.components import read_failures
    from keras_moe.serving import newest_version

    by_name = {run.name: run for run in runs}
    if pusher not in by_name:
        raise ValueError(
            f"`pusher` must be one of {', '.join(by_name)}. "
            f"Received: pusher={pusher!r}"
        )
    judge = by_name.get(evaluator)
    evaluation = judge.artifact("evaluation").uri if judge else None
    figures = read_evaluation(evaluation) if evaluation else {}
    common: dict[str, Any] = {
        "runs": tuple(runs),
        "evaluation": figures,
        "prepared": prepared,
        "pusher": pusher,
    }
    artifact = by_name[pusher].artifact("pushed_model")
    if artifact.custom_properties["pushed"].int_value:
        destination = artifact.custom_properties["pushed_destination"]
        pushed = pathlib.Path(destination.string_value)
        # In a remote store nobody but this pipeline pushes: what it pushed
        # is taken for the newest version without a look.
        remote = "://" in destination.string_value
        return Outcome(
            pushed=pushed,
            reason="",
            needs_push=not remote and pushed != newest_version(pushed.parent),
            **common,
        )
    reason = artifact.custom_properties[REASON].string_value
    if judge and "blessing" in judge.outputs:
        blessing = judge.artifact("blessing")
        if not blessing.custom_properties["blessed"].int_value:
            failures = "; ".join(read_failures(str(evaluation)))
            reason = f"the {evaluator} did not bless the model: {failures}"
    reason = reason or f"the {pusher} did not say why"
    return Outcome(pushed=None, reason=reason, **common)
