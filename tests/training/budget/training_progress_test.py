import re

import pytest

from keras_moe.training import TrainingProgress
from keras_moe.training.budget import _training_progress
from tests.training.budget import budgeted_schedule_test
from tests.training.budget.budgeted_schedule_test import FAST
from tests.training.budget.budgeted_schedule_test import SLOW
from tests.training.budget.budgeted_schedule_test import SLOWEST
from tests.training.budget.budgeted_schedule_test import start

clock = budgeted_schedule_test.clock


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def told(request, clock, capsys, monkeypatch):
    """Trains, and returns the lines that were told."""
    monkeypatch.setattr(
        _training_progress.sys.stderr, "isatty", lambda: request.param
    )

    def tell(seconds, most=10**6, state=None):
        schedule = start(state=state)
        progress = TrainingProgress(schedule)
        progress.on_train_begin()
        for _ in range(most):
            schedule.on_train_batch_begin(0)
            clock.now += seconds
            schedule.on_train_batch_end(0)
            progress.on_train_batch_end(0, {"loss": 0.25})
            if schedule.model.stop_training:
                break
        progress.on_train_end()
        said = capsys.readouterr().err
        assert "nan" not in said
        return said.replace("\033[K", "").replace("\r", "\n").splitlines()

    return tell


def figures(lines):
    """Returns steps made and minutes left, a pair a line."""
    line = re.compile(r"step ([\d,]+) of .* ([\d.]+) min left")
    found = [line.search(each) for each in lines]
    return [(int(m[1].replace(",", "")), float(m[2])) for m in found if m]


def test_steps_loss_and_minutes_are_told(told):
    lines = told(FAST)
    assert lines[-1].strip() == "step 3,600 of 3,600, loss 0.250, 0.0 min left"
    # Until the second update the pace is not known.
    assert all("of 3,600," in line for line in lines[2:] if line)


def test_a_machine_that_makes_fewer_steps_in_time(told):
    lines = [line for line in told(SLOW) if line]
    for step, minutes in figures(lines)[2:]:
        assert minutes == pytest.approx(7 - step * SLOW / 60, abs=0.06)
    assert sum("of about 2,10" in line for line in lines) > 10
    assert "of 2,101, loss" in lines[-1] and "0.0 min" in lines[-1]
    assert not any("too short" in line for line in lines)


def test_a_budget_that_is_too_short_is_told_once(told):
    lines = told(SLOWEST)
    (note,) = [line for line in lines if "too short" in line]
    assert note.strip().startswith(
        "The budget of 7 min is too short for this machine: training goes on "
        "to step 1,201, for 3"
    )
    assert note.endswith(" min more (`min_steps` is 1,200).")
    (line,) = [line for line in lines if "step 300 of" in line]
    expected = "step 300 of at least 1,201, loss 0.250, 30.0 min left"
    assert line.strip() == expected
    assert "step 1,201 of 1,201," in lines[-1]


def test_a_resumed_training_says_where_it_goes_on(told, clock):
    schedule = start()
    budgeted_schedule_test.train(schedule, clock, FAST, most=1800)
    lines = told(FAST, state=schedule.get_state())
    assert lines[0].strip() == "Resuming at step 1,800."
    assert lines[-1].strip().startswith("step 3,600 of 3,600")
    # What is left is foretold from the pace since then.
    for step, minutes in figures(lines)[2:]:
        assert minutes == pytest.approx((3600 - step) * FAST / 60, abs=0.06)
