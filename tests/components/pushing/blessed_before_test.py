import json
import logging

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.types import standard_artifacts

from keras_moe.components import BlessedBefore

pytestmark = pytest.mark.tfx


class World:
    """A metadata store, written as TFX writes it."""

    def __init__(self):
        config = metadata_store_pb2.ConnectionConfig()
        config.fake_database.SetInParent()
        self.store = mlmd.MetadataStore(config)
        kind = metadata_store_pb2.ArtifactType(name="Any")
        self.artifact_type = self.store.put_artifact_type(kind)
        kind = metadata_store_pb2.ExecutionType(name="Any")
        self.execution_type = self.store.put_execution_type(kind)
        self.models, self.blessings = [], []

    def new(self, kind):
        made = kind()
        (made.id,) = self.store.put_artifacts(
            [metadata_store_pb2.Artifact(type_id=self.artifact_type)]
        )
        return made

    def model(self, splits=None, **inputs):
        """A model that was made from others, by key."""
        made = self.new(standard_artifacts.Model)
        run = metadata_store_pb2.Execution(type_id=self.execution_type)
        if splits:
            run.custom_properties["custom_config"].string_value = json.dumps(
                {"splits": splits}
            )
        (execution,) = self.store.put_executions([run])
        ends = [("model", made, metadata_store_pb2.Event.OUTPUT)] + [
            (key, value, metadata_store_pb2.Event.INPUT)
            for key, value in inputs.items()
        ]
        for key, artifact, kind in ends:
            event = metadata_store_pb2.Event(
                artifact_id=artifact.id, execution_id=execution, type=kind
            )
            event.path.steps.add().key = key
            event.path.steps.add().index = 0
            self.store.put_events([event])
        self.models.append(made)
        return made

    def bless(self, model, blessed=1):
        blessing = self.new(standard_artifacts.ModelBlessing)
        blessing.set_int_custom_property("current_model_id", model.id)
        blessing.set_int_custom_property("blessed", blessed)
        self.blessings.append(blessing)
        return blessing

    def resolve(self, before, splits=None):
        return BlessedBefore(splits).resolve_artifacts(
            self.store,
            {
                "before": [before],
                "model": list(self.models),
                "model_blessing": list(self.blessings),
                "teacher": list(self.models),
            },
        )

    def line(self, of_teacher=None, of_student=None):
        """A teacher, its student, and the certified student."""
        teacher = self.model(of_teacher)
        student = self.model(
            of_student, teacher=teacher, examples=self.examples()
        )
        return teacher, self.model(student=student, examples=self.examples())

    def examples(self):
        return self.new(standard_artifacts.Examples)


@pytest.fixture
def world():
    return World()


def ids(artifacts):
    return [artifact.id for artifact in artifacts]


def test_nothing_was_blessed_before(world):
    examples = world.examples()
    _, model = world.line()
    for blessed in (None, 0, 1):
        if blessed is not None:
            world.bless(model, blessed)
        resolved = world.resolve(examples)
        assert ids(resolved["before"]) == [examples.id]
        for key in ("model", "model_blessing", "teacher"):
            assert resolved[key] == []


def test_the_last_blessed_one_with_its_own_teacher(world):
    world.bless(world.line()[1])
    teacher, model = world.line()
    blessing = world.bless(model)
    world.bless(world.line()[1], blessed=0)
    examples = world.examples()
    resolved = world.resolve(examples)
    assert ids(resolved["model"]) == [model.id]
    assert ids(resolved["model_blessing"]) == [blessing.id]
    assert ids(resolved["teacher"]) == [teacher.id]


def test_the_student_of_a_cascade_leads_to_its_teacher(world):
    teacher, _ = world.line()
    student = world.model(teacher=teacher, examples=world.examples())
    other, _ = world.line()
    cascade = world.model(large=other, small=student)
    world.bless(cascade)
    resolved = world.resolve(world.examples())
    assert ids(resolved["model"]) == [cascade.id]
    assert ids(resolved["teacher"]) == [teacher.id]


def test_what_comes_later_changes_nothing(world):
    """So that a run on unchanged data finds what it found before."""
    world.bless(world.line()[1])
    examples = world.examples()
    before = {k: ids(v) for k, v in world.resolve(examples).items()}
    world.bless(world.line()[1])
    assert {k: ids(v) for k, v in world.resolve(examples).items()} == before
    assert world.resolve(world.examples())["model"][0].id != before["model"][0]


@pytest.mark.parametrize("other", ["[0.5, 0.5]", None])
def test_a_model_of_other_splits_may_have_seen_what_is_held_out(
    world, caplog, other
):
    now = "[0.9, 0.1]"
    for splits, is_resolved in (
        ((now, now), True),
        ((now, other), False),
        ((other, now), False),
    ):
        caplog.clear()
        _, model = world.line(*splits)
        world.bless(model)
        with caplog.at_level(logging.WARNING):
            resolved = world.resolve(world.examples(), now)
        assert ids(resolved["model"]) == ([model.id] if is_resolved else [])
        assert bool(resolved["teacher"]) == is_resolved
        assert ("Training begins cold" in caplog.text) != is_resolved
