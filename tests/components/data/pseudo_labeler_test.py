"""What a teacher says, and how far to believe it."""

import json

import numpy as np
import pytest
from tfx import types
from tfx.types import standard_artifacts

from keras_moe import components
from keras_moe.components.data._pseudo_labeler import PseudoLabelerExecutor
from keras_moe.distillation import TeacherAccuracy
from tests.components.artifacts_of import artifact
from tests.components.data import pool_case as case
from tests.components.remote_store import moved

pytestmark = pytest.mark.tfx

SETTINGS = {
    "key": "name",
    "label_key": "label",
    "splits": ["train"],
    "accuracy_splits": ["calibration"],
    "signature_name": "classify",
    "output": "probabilities",
    "from_logits": False,
    "num_shards": 3,
    "batch_size": 7,
}
TRAIN, CALIBRATION = slice(0, 25), slice(25, 55)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return case.save(case.KERNELS[0], tmp_path_factory.mktemp("teacher"))


def splits(order=1):
    rows = [case.example(row, label=row >= 25) for row in range(60)]
    return {
        "train": rows[TRAIN][::order],
        "calibration": rows[CALIBRATION][::order],
        "eval": rows[55:],
    }


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    return case.write(tmp_path_factory.mktemp("examples"), splits())


def run(teacher, examples, place, context=None, **changed):
    made = artifact(standard_artifacts.Examples, f"{place}/labelled")
    PseudoLabelerExecutor(context).Do(
        {"examples": [examples], "teacher": [teacher]},
        {"labelled_examples": [made]},
        {"settings": json.dumps(SETTINGS | changed)},
    )
    return made


@pytest.fixture(scope="module")
def labelled_once(teacher, examples, tmp_path_factory):
    """To read alone."""
    return run(teacher, examples, tmp_path_factory.mktemp("once"))


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_the_teachers_answer_and_its_accuracy(
    output, labelled_once, teacher, examples, tmp_path
):
    made = labelled_once
    if output == "logits":
        changed = {"output": output, "from_logits": True}
        made = run(teacher, examples, tmp_path, **changed)
    logits = np.log(case.answers(case.KERNELS[0]))
    accuracy = TeacherAccuracy.fit(
        logits[CALIBRATION], case.LABELS[CALIBRATION]
    )
    expected = np.asarray(accuracy(logits))
    assert len(set(expected.tolist())) > 1
    labelled = case.read(made, "train")
    assert len(labelled) == 25
    for each in labelled:
        row = case.NAMES.index(each["name"][0].decode())
        assert each["teacher_label"] == [logits[row].argmax()]
        np.testing.assert_allclose(
            each["teacher_probabilities"], np.exp(logits[row]), rtol=1e-4
        )
        assert each["teacher_accuracy"] == pytest.approx([expected[row]])
        assert "label" not in each
    for split in ("calibration", "eval"):
        assert case.read(made, split) == case.read(examples, split)
    assert made.get_int_custom_property("labelled") == 25
    kept = json.loads(made.get_string_custom_property("teacher_accuracy"))
    again = TeacherAccuracy(**kept)
    # Rows of the calibration define the steps, and may fall on either side.
    np.testing.assert_allclose(
        np.asarray(again(logits))[TRAIN], expected[TRAIN], rtol=1e-5
    )


# Several workers take seconds to start. They write the files of a
# `SubsetSelector` by default, by the same functions.
@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(None, id="1"),
        pytest.param(case.MANY_WORKERS, marks=pytest.mark.large, id="3"),
    ],
)
def test_files_do_not_depend_on_workers_or_the_order(
    workers, labelled_once, teacher, tmp_path
):
    backwards = case.write(tmp_path / "backwards", splits(-1), files=4)
    other = run(teacher, backwards, tmp_path / "other", context=workers)

    def labelled(made):
        files = case.content(made)
        return {k: v for k, v in files.items() if k.startswith("Split-train")}

    assert len(labelled(labelled_once)) == 3
    assert labelled(labelled_once) == labelled(other)


def test_what_an_earlier_teacher_said_is_replaced(
    labelled_once, teacher, tmp_path
):
    twice = run(teacher, labelled_once, tmp_path / "twice")
    assert case.content(labelled_once) == case.content(twice)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_key": "lable"}, "must have one integer 'lable'. .*b'row"),
        ({"splits": ["dev"]}, r"must be splits of .* Received: \['dev'\]"),
        ({"output": "logits"}, "`from_logits=True`"),
        ({"signature_name": "no"}, "must be a signature of the model"),
    ],
)
def test_bad_settings_write_nothing(
    changed, message, teacher, examples, tmp_path
):
    with pytest.raises(ValueError, match=message):
        run(teacher, examples, tmp_path, **changed)
    assert not list((tmp_path / "labelled").rglob("*.gz"))


def test_no_example_to_measure_the_teacher_on(teacher, tmp_path):
    given = case.write(tmp_path / "given", {**splits(), "calibration": []})
    with pytest.raises(ValueError, match="`accuracy_splits` must hold examp"):
        run(teacher, given, tmp_path)


def test_in_a_remote_store(
    labelled_once, teacher, examples, remote, tmp_path, monkeypatch
):
    # Beam leaves files of its own, which say nothing of ours.
    temporary = tmp_path / "beam"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    there = run(
        moved(teacher, f"{remote}/teacher"),
        moved(examples, f"{remote}/examples"),
        remote,
    )
    assert there.get_string_custom_property(
        "teacher_accuracy"
    ) == labelled_once.get_string_custom_property("teacher_accuracy")


def test_the_component_declares_what_it_reads_and_writes():
    channels = {
        "examples": types.Channel(type=standard_artifacts.Examples),
        "teacher": types.Channel(type=standard_artifacts.Model),
    }
    made = components.PseudoLabeler(**channels, key="name", label_key="label")
    outputs = made.outputs["labelled_examples"]
    assert outputs.type is standard_artifacts.Examples
    with pytest.raises(ValueError, match="must name one split each"):
        components.PseudoLabeler(
            **channels, key="name", label_key="label", accuracy_splits=[]
        )
