"""A dictionary that grows: the next span goes on from the last model."""

import pytest

from keras_moe.distillation import load_teacher
from pipelines.g2p.data.dictionary import find_cmu_dictionary
from pipelines.g2p.data.dictionary import read_dictionary
from tests.pipelines.g2p.conftest import make_flags
from tests.pipelines.g2p.conftest import run
from tests.pipelines.g2p.conftest import versions

pytestmark = [pytest.mark.tfx, pytest.mark.large]


def write(path, words):
    rows = [f"{word},{p}\n" for word, ps in words.items() for p in ps]
    path.write_text("word,pronunciation\n" + "".join(rows))


def test_spans(tmp_path, console):
    known = read_dictionary(find_cmu_dictionary())
    words = dict(list(known.items())[:: len(known) // 420])
    dictionary = tmp_path / "words.csv"
    write(dictionary, dict(list(words.items())[:400]))
    flags = [
        *make_flags(tmp_path),
        *("--dictionary", str(dictionary)),
        *("--set", "data.max_words=null"),
        # So few updates of so low a rate that weights tell where they are from.
        *("--set", "teacher.training.peak_learning_rate=1.0e-6"),
        *("--set", "teacher.training.seed=1"),
        # What models that learned next to nothing answer is chance.
        *("--set", "evaluation.max_phoneme_error_rate_increase=100"),
    ]
    first, _ = run(flags, console)
    assert first.pushed is not None, first.reason

    write(dictionary, words)
    second, ran = run(flags, console)
    assert {"ImportExampleGen", "Trainer", "Distiller", "Pusher"} <= ran
    assert second.pushed is not None, second.reason
    assert [first.pushed.name, second.pushed.name] == versions(flags)
    assert first.prepared.number == 1
    assert second.prepared.number == 2
    teachers = [
        load_teacher(outcome.saved_model("Trainer", "model"))
        for outcome in (first, second)
    ]
    difference = max(
        abs(a - b).max()
        for a, b in zip(
            *(teacher.get_weights() for teacher in teachers), strict=True
        )
    )
    assert 0 < difference < 1e-3

    again, ran = run(flags, console)
    assert not ran
    assert again.pushed_by_earlier_run
    assert len(versions(flags)) == 2
