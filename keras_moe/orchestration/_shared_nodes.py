"""Nodes that every pipeline has: checked examples, the last model, the push."""

import os
from collections.abc import Sequence
from typing import Any

from keras_moe.orchestration._places import Places
from keras_moe.orchestration.configuration._run_config import RunConfig
from keras_moe.orchestration.examples._spans import Span
from keras_moe.orchestration.examples._splits import SPLITS

# No component before a calibrator and the Evaluator sees these.
HELD_OUT = ("calibration", "test")


def example_nodes(
    places: Places,
    schema_file: Any = None,
    span: Span | None = None,
    held_out: Sequence[str] = HELD_OUT,
) -> dict[str, Any]:
    """Makes the nodes that read examples, and stop the run at an anomaly.

    What must not run on anomalous data waits for the gate:
    `trainer.add_upstream_node(nodes["gate"])`.

    Example:
    ```python
    places = keras_moe.orchestration.find_places(config)
    nodes = keras_moe.orchestration.example_nodes(
        places, places.file("schema_file", "schema.pbtxt", "."), span
    )
    trainer = tfx.components.Trainer(
        examples=nodes["example_gen"].outputs["examples"],
        run_fn="my_project.trainer.run_fn",
    )
    trainer.add_upstream_node(nodes["gate"])
    ```

    Args:
        places: Where the spans are, see `prepare_span`.
        schema_file: What the examples must look like, see `Places.file`; `None`
            to infer it from those of train.
        span: Which of the spans to use; `None` for the last one that there is
            when the pipeline runs.
        held_out: Splits of which nobody makes statistics.

    Returns:
        `example_gen`, `statistics_gen`, `schema_gen`, `example_validator` and
        `gate`.
    """
    # Imported late: TFX takes seconds.
    from tfx import v1 as tfx

    from keras_moe.components import AnomalyGate

    fixed = None
    if span is not None:
        fixed = tfx.proto.RangeConfig(
            static_range=tfx.proto.StaticRange(
                start_span_number=span.number, end_span_number=span.number
            )
        )
    example_gen = tfx.components.ImportExampleGen(
        input_base=places.data_dir,
        input_config=tfx.proto.Input(
            splits=[
                tfx.proto.Input.Split(
                    name=split, pattern=f"span-{{SPAN}}/{split}/*"
                )
                for split in SPLITS
            ]
        ),
        range_config=fixed,
    )
    statistics_gen = tfx.components.StatisticsGen(
        examples=example_gen.outputs["examples"], exclude_splits=list(held_out)
    )
    if schema_file is None:
        schema_gen = tfx.components.SchemaGen(
            statistics=statistics_gen.outputs["statistics"],
            infer_feature_shape=True,
            exclude_splits=["validation", *held_out],
        )
    else:
        schema_gen = tfx.components.ImportSchemaGen(schema_file=schema_file)
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema_gen.outputs["schema"],
        exclude_splits=list(held_out),
    )
    return {
        "example_gen": example_gen,
        "statistics_gen": statistics_gen,
        "schema_gen": schema_gen,
        "example_validator": example_validator,
        "gate": AnomalyGate(anomalies=example_validator.outputs["anomalies"]),
    }


def last_blessed(
    config: RunConfig, model: Any, name: str = "last_blessed"
) -> Any:
    """Makes the node that finds the model against which another is judged.

    Example:
    ```python
    last = keras_moe.orchestration.last_blessed(
        config, trainer.outputs["model"]
    )
    evaluator = tfx.components.Evaluator(
        examples=example_gen.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=last.outputs["model"],
    )
    ```

    Args:
        config: Says whether there is a cluster, whose resolvers know the last
            blessed model alone. On one machine it is the last one that was
            blessed before `model` existed, so that a run that comes from the
            cache is judged as it was.
        model: The channel of the model that is judged.
        name: Of the node.
    """
    from tfx import v1 as tfx
    from tfx.types import standard_artifacts

    from keras_moe.components import BlessedBefore

    channels = {
        "model": tfx.dsl.Channel(type=standard_artifacts.Model),
        "model_blessing": tfx.dsl.Channel(
            type=standard_artifacts.ModelBlessing
        ),
    }
    if config.cluster is None:
        # TFX keeps no `None` among parameters.
        return tfx.dsl.Resolver(
            strategy_class=BlessedBefore, config={}, before=model, **channels
        ).with_id(name)
    return tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        **channels,
    ).with_id(name)


def push_node(places: Places, evaluator: Any, infra_validator: Any) -> Any:
    """Makes the node that pushes what both have blessed.

    Example:
    ```python
    pusher = keras_moe.orchestration.push_node(
        places, evaluator, infra_validator
    )
    ```

    Args:
        places: Where it is served.
        evaluator: TFX's `Evaluator`.
        infra_validator: `keras_moe.components.InfraValidator`. What it judged
            is pushed, with the requests that it sent as warm-up.
    """
    from tfx import v1 as tfx

    from keras_moe.components import Pusher

    return Pusher(
        # Without `model`, the one of `infra_blessing` is pushed, which has the
        # warm-up requests.
        model_blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_validator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(
                base_directory=os.fspath(places.serving_dir)
            )
        ),
    )
