import pathlib

import pytest
from tfx import v1 as tfx
from tfx.types import channel_utils
from tfx.types import standard_artifacts
from tfx.utils import json_utils
from tfx.utils import proto_utils

from keras_moe import components
from keras_moe.components.training._distiller import DistillerExecutor
from tests.components.artifacts_of import artifact

pytestmark = pytest.mark.tfx

SEEN = []


def run_fn(fn_args):
    SEEN.append(fn_args)
    if fn_args.custom_config.get("writes", True):
        pathlib.Path(fn_args.serving_model_dir).mkdir(parents=True)


def run(tmp_path, base=False, **custom):
    def model(name):
        made = artifact(standard_artifacts.Model, tmp_path / name)
        (tmp_path / name / "Format-Serving").mkdir()
        return made

    inputs = {
        "examples": [
            artifact(
                standard_artifacts.Examples,
                tmp_path / "examples",
                ["train", "validation"],
                payload_format="FORMAT_TF_EXAMPLE",
            )
        ],
        "teacher": [model("teacher")],
    }
    if base:
        inputs["base_student"] = [model("base")]
    outputs = {
        "student": [artifact(standard_artifacts.Model, tmp_path / "student")],
        "student_run": [
            artifact(standard_artifacts.ModelRun, tmp_path / "run")
        ],
    }
    args = {
        "train_args": tfx.proto.TrainArgs(splits=["train"]),
        "eval_args": tfx.proto.EvalArgs(splits=["validation"]),
    }
    DistillerExecutor().Do(
        inputs,
        outputs,
        {
            "run_fn": f"{__name__}.run_fn",
            "custom_config": json_utils.dumps({"rate": 1e-9} | custom),
        }
        | {key: proto_utils.proto_to_json(arg) for key, arg in args.items()},
    )
    return SEEN[-1]


def test_the_teacher_is_the_base_model(tmp_path):
    fn_args = run(tmp_path)
    assert fn_args.base_model == str(tmp_path / "teacher" / "Format-Serving")
    student = str(tmp_path / "student" / "Format-Serving")
    assert fn_args.serving_model_dir == student
    assert fn_args.model_run_dir == str(tmp_path / "run")
    assert fn_args.custom_config == {"rate": 1e-9}
    (pattern,) = fn_args.eval_files
    assert "Split-validation" in pattern


def test_a_student_to_go_on_from(tmp_path):
    fn_args = run(tmp_path, base=True)
    assert fn_args.base_model == str(tmp_path / "teacher" / "Format-Serving")
    base = str(tmp_path / "base" / "Format-Serving")
    assert fn_args.custom_config["base_student"] == base


def test_a_function_that_writes_no_model(tmp_path):
    with pytest.raises(RuntimeError, match="failed to generate model"):
        run(tmp_path, writes=False)


def test_keys_of_its_own():
    def channel(kind):
        return channel_utils.as_channel([kind()])

    distiller = components.Distiller(
        examples=channel(standard_artifacts.Examples),
        teacher=channel(standard_artifacts.Model),
        run_fn="a.b",
    )
    assert set(distiller.outputs) == {"student", "student_run"}
