import os

import keras
import numpy as np
import pytest

from keras_moe import calibration
from keras_moe.calibration import Certificate
from keras_moe.calibration import ExitAnswers
from keras_moe.models import SwitchTransformer
from keras_moe.weights import fingerprint
from tests.command.command_line import facts
from tests.command.command_line import refusal
from tests.command.command_line import run

ROWS = 150
FULL = np.tile([5, 6, 1, 0], (ROWS, 1))
# A third of the answers differ at the lower threshold, by one of two tokens.
EARLY = np.where(np.arange(ROWS)[:, None] % 3 == 0, [5, 7, 1, 0], FULL)
OPTIONS = ["--thresholds", "0.5,0.9", "--max_length", 4]


@pytest.fixture(scope="module")
def model():
    model = SwitchTransformer.from_preset("switch_tiny", num_experts=0)
    ids = np.array([[5, 6, 1]])
    model({"encoder_token_ids": ids, "decoder_token_ids": ids})
    return model


@pytest.fixture
def decoded(model, monkeypatch):
    """What was decoded; the answers are made by hand."""
    seen = {}

    def exit_answers(_, token_ids, policy, thresholds, *others, **more):
        seen.update(token_ids=token_ids, policy=policy, thresholds=thresholds)
        yield ExitAnswers(FULL, np.where(FULL > 0, 2, 0))
        yield ExitAnswers(FULL, np.where(FULL > 0, 2, 0))
        yield ExitAnswers(EARLY, np.where(EARLY > 0, 1, 0))

    monkeypatch.setattr(calibration, "exit_answers", exit_answers)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: model)
    return seen


def data(folder, lines=("source",) + ("5 6 1",) * ROWS):
    path = folder / "data.csv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


def test_a_certificate_and_its_evidence(decoded, model, tmp_path):
    target = tmp_path / "c.json"
    given = ["m.keras", data(tmp_path), target, "--tolerance", 0.5, *OPTIONS]
    found = facts("calibrate", *given)
    assert found["thresholds"] == [0.9, 0.5] == decoded["thresholds"]
    assert found["risks"] == pytest.approx([0.0, 1 / 3])
    assert found["speeds"] == [2.0, 1.0]
    assert found["certified_threshold"] == 0.5
    assert decoded["token_ids"].tolist() == [[5, 6, 1]] * ROWS
    certificate = Certificate.load(target)
    certificate.check(
        fingerprint=fingerprint(model),
        policy=calibration.exit_policy(decoded["policy"], 4),
    )
    assert (certificate.n, certificate.p_value) == (ROWS, "binary")
    assert "must be new" in refusal("calibrate", *given)
    target.unlink()
    said = run("calibrate", *given).stdout
    assert "certified" in said and "at 0.5 is at most 0.5" in said


@pytest.mark.parametrize(
    ("loss", "risk"),
    [("exact", 1 / 3), ("edit_distance", 1 / 6), ("token_f1", 1 / 6)],
)
def test_losses(decoded, tmp_path, loss, risk):
    found = facts(
        *("calibrate", "m.keras", data(tmp_path), tmp_path / "c.json"),
        *("--tolerance", 0.6, "--loss", loss, *OPTIONS),
    )
    assert found["risks"] == pytest.approx([0.0, risk])


def test_targets_count_how_much_worse_an_answer_is(decoded, tmp_path):
    # Half of the rows want what the early answers say: those are no loss.
    lines = ["source,target", *["5 6 1,5 7 1", "5 6 1,5 6 1"] * (ROWS // 2)]
    found = facts(
        *("calibrate", "m.keras", data(tmp_path, lines), tmp_path / "c.json"),
        *("--tolerance", 0.5, *OPTIONS),
    )
    assert found["risks"] == pytest.approx([0.0, 1 / 6])


def test_nothing_is_written_where_nothing_passes(decoded, tmp_path):
    target = tmp_path / "c.json"
    said = refusal(
        *("calibrate", "m.keras", data(tmp_path), target),
        *("--tolerance", 0.1, "--thresholds", "0.5,0.4", "--max_length", 4),
        *("--confidence_level", 0.99999999),
    )
    assert "No threshold is certified" in said
    assert not target.exists()


def test_what_is_refused_before_a_model_is_loaded(tmp_path):
    target, few = tmp_path / "c.json", ("source", "5 6 1")
    for lines, options, words in (
        (("text", "5"), [], "must have a column `source`"),
        (("source",), [], "must have rows"),
        (("source,target", "5 1,"), [], "none for target in line 2"),
        (("source", '"5'), [], "must be CSV"),
        (('"source', "5"), [], "must be CSV"),
        (("source", "5", "5, 6"), [], "Received: [' 6'] besides, in line 3"),
        (("source,source", "5,6"), [], "name each column once"),
        (few, ["--loss", "none"], "`loss` must be"),
        (few, ["--confidence", "none"], "`confidence` must be"),
        (few, ["--thresholds", "a"], "must be numbers with commas"),
    ):
        given = data(tmp_path, lines)
        said = refusal(
            *("calibrate", "m.keras", given, target, "--tolerance", 0.1),
            *options,
        )
        assert words in said, words
    assert "must lie in a directory that exists" in refusal(
        *("calibrate", "m.keras", data(tmp_path), tmp_path / "none/c.json"),
        *("--tolerance", 0.1),
    )
    run("calibrate", "m.keras", data(tmp_path), target, code=2)


def test_a_directory_that_may_not_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _, mode, **__: not mode & os.W_OK)
    assert "that may be written" in refusal(
        *("calibrate", "m.keras", data(tmp_path), tmp_path / "c.json"),
        *("--tolerance", 0.1),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "must have token ids of the model"),
        ("0 0", "besides padding in each text. Received: '0 0' in row 151"),
    ],
)
def test_texts_that_are_no_ids(decoded, tmp_path, text, words):
    lines = ("source", *("5 6 1",) * ROWS, text)
    said = refusal(
        *("calibrate", "m.keras", data(tmp_path, lines), tmp_path / "c.json"),
        *("--tolerance", 0.5, *OPTIONS),
    )
    assert words in said


def test_names_of_files_are_no_markup(decoded, tmp_path):
    name = os.fsdecode(b"x[bold]\xff.cert")
    target = tmp_path / name
    said = run(
        *("calibrate", "m.keras", data(tmp_path), target),
        *("--tolerance", 0.5, *OPTIONS),
    ).stdout
    assert target.exists() and "x[bold]\\udcff.cert" in said


def test_another_model_is_refused(tmp_path):
    keras.Sequential([keras.Input([2])]).save(tmp_path / "other.keras")
    said = refusal(
        *("calibrate", tmp_path / "other.keras", data(tmp_path)),
        *(tmp_path / "c.json", "--tolerance", 0.1),
    )
    assert "must decode sequences, such as `SwitchTransformer`." in said
    assert said.endswith("Received: a Sequential model.")


def test_too_few_texts_are_named_first(decoded, tmp_path):
    said = refusal(
        *("calibrate", "m.keras", data(tmp_path, ("source", "5 6 1"))),
        *(tmp_path / "c.json", "--tolerance", 0.1),
    )
    assert said.startswith("1 example is too few: not even losses of 0")
    assert not decoded
