"""TFX's local orchestrator, which tells what each component made."""

import datetime
import json
import os
import re
import time
from collections.abc import Callable
from collections.abc import Collection

import ml_metadata as mlmd
from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import launcher
from tfx.orchestration.portable import runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

from keras_moe.orchestration.running._component_failed_error import (
    ComponentFailedError,
)
from keras_moe.orchestration.running._component_run import ComponentRun
from keras_moe.orchestration.running._outcome import REASON
from keras_moe.orchestration.running._outcome import Outcome

_RESOLVER = "Resolver"
_RESULT = "__execution_result__"  # TFX's name


class ReportingRunner(tfx.orchestration.LocalDagRunner):
    """Runs components one after the other and collects what each made.

    The loop is that of `LocalDagRunner`, which hands back neither the outputs
    nor whether they came from the cache.

    Example:
    ```python
    runner = keras_moe.orchestration.ReportingRunner(on_start=print)
    runner.run(create_pipeline(config))
    print([run.name for run in runner.runs if not run.cached])
    ```

    Args:
        on_start: Called with a component's name before it runs.
        on_end: Called with its `ComponentRun` after it ran.
        uncached: Names of components that run even if nothing changed.

    Attributes:
        runs: The `ComponentRun` of each component of the last run, without
            resolvers, which make nothing.
    """

    def __init__(
        self,
        on_start: Callable[[str], None] = lambda name: None,
        on_end: Callable[[ComponentRun], None] = lambda run: None,
        uncached: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._on_start = on_start
        self._on_end = on_end
        self._uncached = frozenset(uncached)
        self.runs: list[ComponentRun] = []

    def run_with_ir(
        self,
        pipeline: pipeline_pb2.Pipeline,
        run_options: pipeline_pb2.RunOptions | None = None,
    ) -> None:
        """Runs a compiled pipeline.

        Args:
            pipeline: The pipeline in TFX's intermediate representation.
            run_options: Not supported; must be `None`.

        Raises:
            ComponentFailedError: If a component fails, or TFX finds none of
                its inputs.
            ValueError: If `run_options` is given.
        """
        if run_options is not None:
            raise ValueError(
                "`run_options` must be `None`: the outcome of a partial run "
                f"cannot be judged. Received: {run_options!r}"
            )
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline,
            {
                constants.PIPELINE_RUN_ID_PARAMETER_NAME: (
                    datetime.datetime.now().isoformat()
                )
            },
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        connections = deployment.metadata_connection_config
        connection = getattr(
            connections, connections.WhichOneof("connection_config")
        )
        self.runs = []
        for node in pipeline.nodes:  # in topological order
            name = node.pipeline_node.node_info.id
            if name in self._uncached:
                caching = node.pipeline_node.execution_options.caching_options
                caching.enable_cache = False
            node_launcher = launcher.Launcher(
                pipeline_node=node.pipeline_node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(
                    deployment, name
                ),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(
                    deployment, name
                ),
            )
            self._on_start(name)
            began = time.monotonic()
            try:
                info = node_launcher.launch()
            # `sys.exit()` in a component would end the process, perhaps with 0.
            except (Exception, SystemExit) as error:
                failure = ComponentFailedError(name, error)
                with metadata.Metadata(connection) as handle:
                    _record_failure(handle.store, name, str(failure))
                raise failure from error
            if info is None:
                raise ComponentFailedError(
                    name, RuntimeError("TFX found none of its inputs")
                )
            if node.pipeline_node.node_info.type.name.endswith(_RESOLVER):
                # A resolver only looks something up. If it fails, TFX goes on
                # as if nothing had been found: check its execution.
                with metadata.Metadata(connection) as handle:
                    _check_resolved(handle.store, name, info.execution_id)
                continue
            seconds = time.monotonic() - began
            with metadata.Metadata(connection) as handle:
                run = _read_run(handle.store, name, info.execution_id, seconds)
            self.runs.append(run)
            self._on_end(run)


def record_reason(metadata_path: str | os.PathLike, outcome: Outcome) -> None:
    """Writes why nothing was pushed where the pushed model would stand.

    Args:
        metadata_path: The SQLite file.
        outcome: A run's, with a `reason`.
    """
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(
        str(metadata_path)
    )
    artifact = outcome.run_of(outcome.pusher).artifact("pushed_model")
    artifact.custom_properties[REASON].string_value = outcome.reason
    with metadata.Metadata(connection) as handle:
        handle.store.put_artifacts([artifact])


def _record_failure(store: mlmd.MetadataStore, name: str, reason: str) -> None:
    """Writes the reason where the failed execution stands in the metadata."""
    failed = [
        execution
        for execution in store.get_executions()
        if execution.last_known_state == metadata_store_pb2.Execution.FAILED
        and any(
            context.name.endswith(f".{name}")
            for context in store.get_contexts_by_execution(execution.id)
        )
    ]
    if failed:
        execution = max(failed, key=lambda each: each.id)
        execution.custom_properties[REASON].string_value = reason
        store.put_executions([execution])


def _check_resolved(
    store: mlmd.MetadataStore, name: str, execution_id: int
) -> None:
    (execution,) = store.get_executions_by_id([execution_id])
    if execution.last_known_state == metadata_store_pb2.Execution.FAILED:
        result = execution.custom_properties[_RESULT].string_value
        raise ComponentFailedError(name, RuntimeError(_first_cause(result)))


def _first_cause(result: str) -> str:
    """Finds the first error in TFX's execution result.

    Args:
        result: JSON, whose `resultMessage` is the text of a traceback: the
            first cause comes first, and unindented lines name the errors.
    """
    try:
        text = json.loads(result)["resultMessage"]
    except (ValueError, KeyError, TypeError):
        text = result
    causes = re.findall(r"^[\w.]+: .*", text, re.MULTILINE)
    return causes[0] if causes else "the inputs could not be resolved"


def _read_run(
    store: mlmd.MetadataStore, name: str, execution_id: int, seconds: float
) -> ComponentRun:
    """Reads what the metadata says about an execution."""
    (execution,) = store.get_executions_by_id([execution_id])
    keys = {
        event.artifact_id: event.path.steps[0].key
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type == metadata_store_pb2.Event.OUTPUT
    }
    outputs: dict[str, list[metadata_store_pb2.Artifact]] = {}
    for artifact in store.get_artifacts_by_id(list(keys)):
        outputs.setdefault(keys[artifact.id], []).append(artifact)
    state = metadata_store_pb2.Execution.CACHED
    return ComponentRun(
        name=name,
        cached=execution.last_known_state == state,
        seconds=seconds,
        outputs=outputs,
    )
