"""Labels, promotion, rollback: what each command decides."""

import json

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from keras_moe.serving import Rollout
from keras_moe.serving import rollout as module

VERSIONS = st.sets(st.integers(1, 12), max_size=6)
ROLLOUTS = st.builds(
    Rollout,
    st.none() | st.integers(1, 12),
    st.frozensets(st.integers(1, 12), max_size=6),
)


def fill(base, *versions):
    for version in versions:
        (base / str(version)).mkdir(parents=True)
        (base / str(version) / "saved_model.pb").touch()
    return base


@given(ROLLOUTS, VERSIONS, st.integers(2, 4))
def test_labels_mean_what_is_served(rollout, versions, count):
    labels = rollout.labels(versions)
    served = rollout.to_serve(versions, count)

    assert len(served) <= count
    assert served == sorted(set(served), reverse=True)
    assert set(served) <= versions - rollout.withdrawn
    assert set(labels.values()) <= set(served)
    assert bool(labels) == bool(versions - rollout.withdrawn)
    if labels:
        assert labels["canary"] == max(versions - rollout.withdrawn)
        # The labels of what is loaded are those of what there is.
        assert rollout.labels(served) == labels or rollout.stable is None


@given(ROLLOUTS, VERSIONS)
def test_rollback_goes_back_to_the_stable_version(rollout, versions):
    before = rollout.labels(versions)
    if len(versions - rollout.withdrawn) < 2:
        with pytest.raises(ValueError, match="go back to"):
            rollout.roll_back(versions)
        return
    after = rollout.roll_back(versions)

    labels = after.labels(versions)
    assert labels["stable"] == labels["canary"]
    assert labels["stable"] < before["canary"]
    if before["stable"] != before["canary"]:
        assert labels["stable"] == before["stable"]
    # It is only undone by saying so; a newer version is the canary.
    assert after.labels(versions | {99})["canary"] == 99
    assert after.labels(versions | {99})["stable"] == before["stable"] or (
        before["stable"] == before["canary"]
    )
    for version in after.withdrawn - rollout.withdrawn:
        after = after.restore(version)
    assert after.withdrawn == rollout.withdrawn


def test_promoted_stays_stable_until_the_next_is():
    rollout = Rollout().promote([1, 2])
    assert rollout.labels([1, 2, 3, 4]) == {"stable": 2, "canary": 4}
    assert rollout.to_serve([1, 2, 3, 4], 2) == [4, 2]
    assert rollout.promote([1, 2, 3, 4], 3).labels([1, 2, 3, 4]) == {
        "stable": 3,
        "canary": 4,
    }
    with pytest.raises(ValueError, match=r"`version` must be one of .*5"):
        rollout.promote([1, 2], 5)
    with pytest.raises(ValueError, match="withdrawn"):
        rollout.restore(1)


@given(rollout=ROLLOUTS)
def test_survives_the_disk(tmp_path_factory, rollout):
    base = tmp_path_factory.mktemp("base")
    rollout.write(base)
    assert Rollout.read(base) == rollout


def test_nothing_decided(tmp_path):
    assert Rollout.read(tmp_path) == Rollout()
    assert Rollout.read(tmp_path / "missing") == Rollout()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"stable": "1", "withdrawn": []}']
    + ['{"stable": true, "withdrawn": []}', '{"stable": 1, "withdrawn": 2}'],
)
def test_damaged_file(tmp_path, text):
    (tmp_path / "rollout.json").write_text(text)
    with pytest.raises(ValueError, match=r"rollout\.json must hold"):
        Rollout.read(tmp_path)


class TestCommand:
    def test_one_command_rolls_back(self, tmp_path, capsys):
        base = fill(tmp_path / "g2p", 1, 2, 3)
        config = tmp_path / "models.config"

        code = module.main(
            ["rollback", str(base), "--model_config_file", str(config)]
        )

        assert code == 0
        assert capsys.readouterr().out == (
            "stable: 2\ncanary: 2\nwithdrawn: 3\n"
        )
        assert json.loads((base / "rollout.json").read_text()) == {
            "stable": 2,
            "withdrawn": [3],
        }
        # The stock server is told the same, in its own words.
        (model,) = text_format.Parse(
            config.read_text(), model_server_config_pb2.ModelServerConfig()
        ).model_config_list.config
        assert (model.name, model.base_path) == ("g2p", "/models/g2p")
        assert list(model.model_version_policy.specific.versions) == [2, 1]
        assert dict(model.version_labels) == {"stable": 2, "canary": 2}

    def test_promote_restore_and_status(self, tmp_path, capsys):
        base = fill(tmp_path / "g2p", 1, 2)
        assert module.main(["status", str(base)]) == 0
        assert capsys.readouterr().out == "stable: 1\ncanary: 2\n"
        assert not (base / "rollout.json").exists()
        assert module.main(["promote", str(base)]) == 0
        assert capsys.readouterr().out == "stable: 2\ncanary: 2\n"
        assert module.main(["rollback", str(base)]) == 0
        assert module.main(["restore", str(base), "--version=2"]) == 0
        assert Rollout.read(base) == Rollout(stable=1)

    @pytest.mark.parametrize(
        ("versions", "arguments", "message"),
        [
            ([], ["status"], "must hold numbered versions"),
            ([1], ["rollback"], "a version to go back to"),
            ([1], ["promote", "--version=7"], "version=7"),
            ([1], ["restore"], "needs --version"),
        ],
    )
    def test_refusals_change_nothing(
        self, tmp_path, capsys, versions, arguments, message
    ):
        base = fill(tmp_path / "g2p", *versions)
        base.mkdir(exist_ok=True)
        command, *flags = arguments

        assert module.main([command, str(base), *flags]) == 1

        assert message in capsys.readouterr().err
        assert not (base / "rollout.json").exists()
