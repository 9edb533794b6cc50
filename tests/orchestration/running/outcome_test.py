"""What a run came to, by what the metadata say."""

import pytest
from ml_metadata.proto import metadata_store_pb2

from keras_moe.orchestration import ComponentRun
from keras_moe.orchestration import read_outcome

pytestmark = pytest.mark.tfx


def pusher(cached=False, **properties):
    artifact = metadata_store_pb2.Artifact()
    for name, value in properties.items():
        kind = "int_value" if isinstance(value, int) else "string_value"
        setattr(artifact.custom_properties[name], kind, value)
    outputs = {"pushed_model": [artifact]}
    return ComponentRun("Pusher", cached, 0.1, outputs)


@pytest.mark.parametrize(
    ("versions", "needs_push"),
    [(["3"], False), (["3", "4"], True), (["2"], True), ([], True)],
)
def test_only_the_newest_version_is_served(tmp_path, versions, needs_push):
    for version in versions:
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    destination = str(tmp_path / "3")
    run = pusher(cached=True, pushed=1, pushed_destination=destination)
    outcome = read_outcome([run], prepared="span 1")
    assert outcome.pushed == tmp_path / "3"
    assert outcome.pushed_by_earlier_run
    assert outcome.needs_push == needs_push
    assert outcome.prepared == "span 1"


def test_a_remote_destination_is_not_looked_at():
    run = pusher(pushed=1, pushed_destination="gs://bucket/toys/3")
    outcome = read_outcome([run])
    assert outcome.pushed.name == "3"
    assert not outcome.needs_push
    assert not outcome.pushed_by_earlier_run


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"reason": "it rained"}, "it rained"),
        ({}, "the Pusher did not say why"),
    ],
)
def test_the_reason_is_the_pushers(properties, reason):
    outcome = read_outcome([pusher(pushed=0, **properties)])
    assert (outcome.pushed, outcome.reason) == (None, reason)
    assert not outcome.pushed_by_earlier_run
    assert dict(outcome.metrics) == {}


def test_components_by_name():
    outcome = read_outcome([pusher(pushed=0)])
    assert outcome.run_of("Pusher").name == "Pusher"
    with pytest.raises(KeyError, match="one of Pusher. Received: name='Trai"):
        outcome.run_of("Trainer")
    with pytest.raises(RuntimeError, match="'model' of Pusher must be one art"):
        outcome.saved_model("Pusher", "model")
    with pytest.raises(ValueError, match="`pusher` must be one of Pusher"):
        read_outcome(outcome.runs, pusher="Shop")
