import pathlib

import pytest
from tfx import v1 as tfx
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from keras_moe.components.pusher import PusherExecutor
from tests.components.artifacts_of import artifact

pytestmark = pytest.mark.tfx


def run(tmp_path, blessed=1, infra=1, reason=""):
    stamped = tmp_path / "infra" / "stamped_model"
    infra_blessing = artifact(
        standard_artifacts.InfraBlessing,
        tmp_path / "infra",
        blessed=infra,
        has_model=1,
        **({"reason": reason} if reason else {}),
    )
    stamped.mkdir(exist_ok=True)
    (stamped / "saved_model.pb").write_bytes(b"graph")
    name = "INFRA_BLESSED" if infra else "INFRA_NOT_BLESSED"
    (tmp_path / "infra" / name).touch()
    pushed = artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
    destination = tfx.proto.PushDestination(
        filesystem=tfx.proto.PushDestination.Filesystem(
            base_directory=str(tmp_path / "base")
        )
    )
    PusherExecutor().Do(
        {
            "model_blessing": [
                artifact(
                    standard_artifacts.ModelBlessing,
                    tmp_path / "blessing",
                    blessed=blessed,
                )
            ],
            "infra_blessing": [infra_blessing],
        },
        {"pushed_model": [pushed]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    return pushed


def test_a_blessed_model_is_pushed_and_recorded_once(tmp_path):
    first, again = run(tmp_path), run(tmp_path)
    (version,) = (tmp_path / "base").iterdir()
    for pushed in (first, again):
        assert pushed.get_int_custom_property("pushed") == 1
        destination = pushed.get_string_custom_property("pushed_destination")
        assert pathlib.Path(destination) == version


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ({"blessed": 0}, "the Evaluator did not bless the model"),
        (
            {"infra": 0, "reason": "no answer"},
            "the InfraValidator did not bless the model: no answer",
        ),
    ],
)
def test_a_refused_one_is_not_and_the_metadata_say_why(
    tmp_path, refused, reason
):
    pushed = run(tmp_path, **refused)
    assert pushed.get_int_custom_property("pushed") == 0
    assert pushed.get_string_custom_property("reason") == reason
    assert not (tmp_path / "base").exists()
