"""The component declares its artifacts, and refuses bad arguments at once."""

import json

import keras
import pytest
from tfx import types
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe import data

pytestmark = pytest.mark.tfx

ENTROPY = data.ImportanceSelector("entropy")


def channel(kind):
    return types.Channel(type=kind)


def make(selector, num_models=0, **options):
    names = ("model", "other_model")[:num_models]
    return components.SubsetSelector(
        examples=channel(standard_artifacts.Examples),
        selector=selector,
        **{name: channel(standard_artifacts.Model) for name in names},
        **{"budget": 5, "key": "name", **options},
    )


def test_the_component_declares_what_it_reads_and_writes():
    made = make(ENTROPY, 1)
    outputs = made.outputs["selected_examples"]
    assert outputs.type is standard_artifacts.Examples
    settings = json.loads(made.exec_properties["settings"])
    selector = keras.saving.deserialize_keras_object(settings["selector"])
    assert selector.get_config() == ENTROPY.get_config()


@pytest.mark.parametrize(
    ("selector", "num_models", "options", "message"),
    [
        (ENTROPY, 0, {}, "must be 1 models for ImportanceSelector. .*: 0"),
        (ENTROPY, 2, {}, "must be 1 models"),
        (data.RandomSelector(), 1, {}, "must be 0 models"),
        (data.ImportanceSelector(), 2, {}, "`label_key` must be given"),
        (data.RobustActiveSelector(3), 1, {}, "one example at a time"),
        ("entropy", 1, {}, "must be a `keras_moe.data.Selector`"),
        (ENTROPY, 1, {"budget": 0}, "`budget` must be a positive integer"),
        (ENTROPY, 1, {"seed": -1}, "`seed` must be an integer"),
        (ENTROPY, 1, {"num_shards": 0}, "`num_shards` must be a positive"),
    ],
)
def test_bad_arguments(selector, num_models, options, message):
    with pytest.raises(ValueError, match=message):
        make(selector, num_models, **options)
