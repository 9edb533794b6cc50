import shutil

import keras
import pytest
from tfx.components.trainer.fn_args_utils import FnArgs

from keras_moe.components import BASE_STUDENT
from keras_moe.components import training_checkpoints
from keras_moe.training import Position

pytestmark = pytest.mark.tfx


@pytest.fixture
def root(tmp_path):
    """A place with the inputs of a trainer."""
    for name in ("examples/Split-train", "examples/Split-eval", "graph/fn"):
        (tmp_path / name).mkdir(parents=True)
    for split in ("train", "eval"):
        (tmp_path / f"examples/Split-{split}/data-0.gz").write_text(split)
    (tmp_path / "graph/fn/saved_model.pb").write_text("graph")
    (tmp_path / "schema.pbtxt").write_text("schema")
    for name in ("base [1]", "student"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.keras").write_text("weights")
    return tmp_path


def fn_args(root, execution=1, component="Trainer", **changes):
    """What TFX gives the `run_fn` of an execution."""
    given = {
        "train_files": [f"{root}/examples/Split-train/*"],
        "eval_files": [f"{root}/examples/Split-eval/*"],
        "transform_graph_path": f"{root}/graph",
        "schema_path": f"{root}/schema.pbtxt",
        "base_model": f"{root}/base [1]",
        "model_run_dir": f"{root}/{component}/model_run/{execution}",
        "custom_config": {"code": "1f", BASE_STUDENT: f"{root}/student"},
        "hyperparameters": None,
    }
    return FnArgs(**{**given, **changes})


class KilledError(Exception):
    pass


def begin(args):
    """Trains a step, and is killed; returns what was found before."""
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    with pytest.raises(KilledError), training_checkpoints(args) as checkpoints:
        found = checkpoints.restore(model)
        checkpoints.save(model, Position(step=found.step + 1 if found else 1))
        checkpoints.wait()
        raise KilledError
    return found and found.step


def end(args):
    with training_checkpoints(args, every=7) as checkpoints:
        assert checkpoints.every == 7
        return checkpoints.latest is not None


def test_another_execution_finds_what_a_killed_one_left(root):
    assert begin(fn_args(root)) is None
    assert begin(fn_args(root, execution=2)) == 1
    assert end(fn_args(root, execution=3))
    # What has succeeded leaves nothing behind.
    assert begin(fn_args(root, execution=4)) is None
    assert end(fn_args(root, execution=4))
    assert list((root / "Trainer").iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"custom_config": {"code": "2e"}},
        {"hyperparameters": {"values": {"rate": 1}}},
        {"train_steps": 3},
        {"eval_files": []},
        {"base_model": None},
    ],
)
def test_another_training_is_not_resumed(root, changes):
    begin(fn_args(root))
    assert begin(fn_args(root, **changes)) is None
    # Nor do those of other trainings pile up.
    assert len(list((root / "Trainer/.checkpoints").iterdir())) == 1
    assert begin(fn_args(root, **changes)) == 1
    assert begin(fn_args(root)) is None


@pytest.mark.parametrize(
    "file",
    [
        "examples/Split-train/data-0.gz",
        "examples/Split-train/data-1.gz",
        "examples/Split-eval/data-0.gz",
        "graph/fn/saved_model.pb",
        "schema.pbtxt",
        "base [1]/model.keras",
        "student/model.keras",
    ],
)
def test_other_content_in_the_same_place_is_another_training(root, file):
    """Where the metadata are begun anew, places come again."""
    begin(fn_args(root))
    (root / file).write_text("of another dictionary")
    assert begin(fn_args(root)) is None


def test_the_same_content_in_another_place_is_another_training(root):
    begin(fn_args(root))
    shutil.copytree(root / "graph", root / "graph_2")
    args = fn_args(root, transform_graph_path=f"{root}/graph_2")
    assert begin(args) is None


def test_components_have_checkpoints_of_their_own(root):
    begin(fn_args(root))
    assert begin(fn_args(root, component="Distiller")) is None
    assert begin(fn_args(root)) == 1
    # Orchestrators of clusters name a folder by run and component.
    args = fn_args(root, model_run_dir=f"{root}/run-5/Trainer_12/model_run")
    assert begin(args) is None and begin(args) == 1
    assert (root / "run-5/Trainer_12/.checkpoints").is_dir()


def test_a_remote_store_has_none_and_says_so(root, remote, capsys):
    args = fn_args(root, model_run_dir=f"{remote}/Trainer/model_run/1")
    with training_checkpoints(args) as checkpoints:
        assert checkpoints is None
    said = capsys.readouterr().err
    assert said.strip().startswith("Training without checkpoints")
    assert said.count("\n") == 1 and f"{remote}/Trainer" in said
