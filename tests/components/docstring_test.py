"""The examples of what needs TFX run, between nodes of a pipeline."""

import types

import keras
import pytest
from tensorflow_model_analysis.proto import config_pb2
from tfx import v1 as tfx
from tfx.types import standard_artifacts

import keras_moe
from tests import docstrings
from tests.docstring_test import WITH_TFX

ORCHESTRATION = "keras_moe.orchestration."
# Examples that need what a test of their own makes.
NOT_RUN = {
    "read_embeddings": "reads what a component wrote",
    "read_evaluation": "reads what a component wrote",
    "read_failures": "reads what a component wrote",
    "read_selected_features": "reads what a component wrote",
    "ReportingRunner": "runs a pipeline",
    "ComponentFailedError": "runs a pipeline",
    "read_outcome": "runs a pipeline",
    "served": "serves a model",
    "ask_both_ways": "serves a model",
}


def chosen(module):
    return module.startswith((*WITH_TFX, ORCHESTRATION))


FOUND = list(docstrings.documented(chosen))


def called(found):
    return found.name.rpartition(".")[2]


@pytest.mark.parametrize(
    "found",
    [f for f in FOUND if f.examples and f.name.startswith(WITH_TFX)],
    ids=called,
)
def test_example(found, tmp_path):
    docstrings.run_prompted(found, tmp_path / "new", tfx=tfx)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples take as there: nodes, and a configuration."""
    folder = tmp_path_factory.mktemp("examples")
    config = keras_moe.orchestration.RunConfig(output=folder)
    example_gen = tfx.components.ImportExampleGen(str(folder))
    examples = example_gen.outputs["examples"]
    statistics_gen = tfx.components.StatisticsGen(examples=examples)
    statistics = statistics_gen.outputs["statistics"]
    schema_gen = tfx.components.SchemaGen(statistics=statistics)
    schema = schema_gen.outputs["schema"]
    trainer = tfx.components.Trainer(examples=examples, run_fn="trainer.run_fn")
    model = trainer.outputs["model"]
    distiller = keras_moe.components.Distiller(
        examples=examples, teacher=model, run_fn="student.run_fn"
    )
    return dict(
        COMMAND_LINE=None,
        config=config,
        config_pb2=config_pb2,
        distiller=distiller,
        embedder=keras_moe.components.CandidateEmbedder(
            model=model, examples=examples, identifier_key="product"
        ),
        evaluator=tfx.components.Evaluator(examples=examples, model=model),
        example_gen=example_gen,
        example_validator=tfx.components.ExampleValidator(
            statistics=statistics, schema=schema
        ),
        exit_calibrator=types.SimpleNamespace(outputs={"model": model}),
        infra_validator=keras_moe.components.InfraValidator(
            model=model, examples=examples, model_name="mine"
        ),
        keras=keras,
        keras_moe=keras_moe,
        places=keras_moe.orchestration.find_places(config),
        pusher=tfx.components.Pusher(
            model=model,
            push_destination=tfx.proto.PushDestination(
                filesystem=tfx.proto.PushDestination.Filesystem(
                    base_directory="serving"
                )
            ),
        ),
        schema_gen=schema_gen,
        span=None,
        standard_artifacts=standard_artifacts,
        tfx=tfx,
        trainer=trainer,
        transform=tfx.components.Transform(
            examples=examples,
            schema=schema,
            preprocessing_fn="preprocessing.preprocessing_fn",
        ),
    )


@pytest.mark.parametrize(
    "found", [f for f in FOUND if docstrings.fenced(f)], ids=called
)
def test_fenced_example(found, names):
    code = compile(docstrings.fenced(found), found.name, "exec")
    if called(found) not in NOT_RUN:
        exec(code, dict(names))
