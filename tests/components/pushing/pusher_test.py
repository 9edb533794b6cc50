import os
import pathlib

import pytest
from tfx import v1 as tfx
from tfx.dsl.io import fileio
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from keras_moe.components.pushing._pusher import PusherExecutor
from tests.components.artifacts_of import artifact
from tests.components.remote_store import files

pytestmark = pytest.mark.tfx

STAMPED = "infra/stamped_model/saved_model.pb"


def run(place, blessed=1, infra=1, reason="", base=None):
    infra_blessing = artifact(
        standard_artifacts.InfraBlessing,
        f"{place}/infra",
        blessed=infra,
        has_model=1,
        **({"reason": reason} if reason else {}),
    )
    name = "INFRA_BLESSED" if infra else "INFRA_NOT_BLESSED"
    for path in (f"{place}/infra/{name}", f"{place}/{STAMPED}"):
        fileio.makedirs(os.path.dirname(path))
        with fileio.open(path, "w") as file:
            file.write("graph")
    pushed = artifact(standard_artifacts.PushedModel, f"{place}/pushed")
    destination = tfx.proto.PushDestination(
        filesystem=tfx.proto.PushDestination.Filesystem(
            base_directory=str(base or f"{place}/base")
        )
    )
    PusherExecutor().Do(
        {
            "model_blessing": [
                artifact(
                    standard_artifacts.ModelBlessing,
                    f"{place}/blessing",
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


def test_from_a_remote_store_to_any(remote, tmp_path):
    for base in (f"{remote}/base", str(tmp_path / "base")):
        pushed = run(remote, base=base)
        assert pushed.get_int_custom_property("pushed") == 1
        version = pushed.get_string_custom_property("pushed_destination")
        number = pushed.get_string_custom_property("pushed_version")
        assert version == f"{base}/{number}"
        assert files(version)["saved_model.pb"] == b"graph"
        # The second push is of the same model: there is nothing to do.
        again = run(remote, base=base)
        destination = again.get_string_custom_property("pushed_destination")
        assert destination == version


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
