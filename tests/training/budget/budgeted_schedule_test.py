import json
import types

import numpy as np
import pytest

from keras_moe.training import BudgetedSchedule
from keras_moe.training import TrainingBudget
from keras_moe.training.budget import _budgeted_schedule

CONFIG = TrainingBudget(
    steps=3600,
    min_steps=1200,
    max_minutes=7.0,
    peak_learning_rate=1.0,
    warmup=0.05,
)
FAST, SLOW, SLOWEST = 0.1, 0.2, 2.0  # seconds of an update
# With the shortest schedule, the greatest change of the rate in an update: the
# steepest slope of the half cosine, and that of the warm-up.
FALL = np.pi / 2 / 0.95 / CONFIG.min_steps
RISE = 1 / 0.05 / CONFIG.min_steps


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves on; `now` are its seconds."""
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(_budgeted_schedule.time, "monotonic", lambda: clock.now)
    return clock


class Model:
    """What a schedule asks of a model."""

    def __init__(self):
        self.rates = []
        self.stop_training = False
        self.optimizer = types.SimpleNamespace(
            learning_rate=types.SimpleNamespace(assign=self.rates.append)
        )


def start(config=CONFIG, state=None):
    """A schedule at the beginning of a training, as `Trainer` begins it."""
    schedule = BudgetedSchedule(config)
    schedule.set_model(Model())
    if state is not None:
        schedule.set_state(json.loads(json.dumps(state)))
    schedule.on_train_begin()
    return schedule


def train(schedule, clock, seconds, most=10**6):
    """Updates until the schedule ends; returns how many.

    `seconds` is what an update takes, or a function of its number.
    """
    for made in range(most):
        if schedule.model.stop_training:
            return made
        schedule.on_train_batch_begin(0)
        took = seconds(schedule.step) if callable(seconds) else seconds
        clock.now += took
        schedule.on_train_batch_end(0)
    return most


def assert_smooth(rates):
    """Rises, then falls to zero, never by more than the shortest schedule."""
    rates = np.asarray(rates)
    peak = np.argmax(rates)
    assert rates[peak] == pytest.approx(1.0, abs=RISE)
    changes = np.diff(rates)
    assert (changes[:peak] >= 0).all() and changes.max() <= RISE * 1.001
    assert (changes[peak:] <= 0).all() and changes.min() >= -FALL * 1.001
    assert 0 <= rates[-1] < 1e-4


def test_the_steps_end_a_fast_training(clock):
    schedule = start()
    assert train(schedule, clock, FAST) == 3600
    assert_smooth(schedule.model.rates)
    assert schedule.learning_rate() == 0.0
    # As if there were no budget.
    without = start(TrainingBudget(steps=3600, max_minutes=0))
    assert train(without, clock, 100 * FAST) == 3600
    peak = without.config.peak_learning_rate
    np.testing.assert_allclose(
        schedule.model.rates, np.array(without.model.rates) / peak, rtol=1e-9
    )


def test_the_budget_ends_a_slow_training(clock):
    schedule, began = start(), clock.now
    steps = train(schedule, clock, SLOW)
    assert clock.now - began == pytest.approx(420, abs=2 * SLOW)
    assert 1200 < steps == round(420 / SLOW) + 1
    assert_smooth(schedule.model.rates)
    assert schedule.learning_rate() == 0.0


@pytest.mark.parametrize("seconds", [0.4, SLOWEST, 1000.0])
def test_the_fewest_steps_end_a_training_on_the_slowest_machine(clock, seconds):
    schedule = start()
    # The first update, which compiles, does not count in time.
    assert train(schedule, clock, seconds) == 1 + 1200
    assert_smooth(schedule.model.rates)
    assert schedule.learning_rate() == 0.0


@pytest.mark.parametrize("turn", [10, 300, 900, 1500, 3000])
@pytest.mark.parametrize(
    "before, after", [(FAST, 4 * FAST), (4 * SLOW, SLOW), (FAST, SLOWEST)]
)
def test_a_machine_may_change_its_speed(clock, turn, before, after):
    schedule, began = start(), clock.now
    steps = train(schedule, clock, lambda n: before if n < turn else after)
    assert 1200 <= steps <= 3600
    assert_smooth(schedule.model.rates)
    # The budget is overdrawn for the fewest steps alone.
    fewest = 1200 * max(before, after)
    assert clock.now - began <= max(420, fewest) + 2 * max(before, after)


@pytest.mark.parametrize("at", [1, 100, 1000, 2000, 3590])
def test_an_hour_of_sleep_ends_a_training_sooner_but_smoothly(clock, at):
    schedule = start()
    steps = train(schedule, clock, lambda n: 3600.0 if n == at else FAST)
    assert 1200 <= steps <= 3600
    assert steps >= at + 1200 * (1 - at / 3600) - 2
    assert_smooth(schedule.model.rates)


@pytest.mark.parametrize("seconds", [FAST, SLOW, SLOWEST])
def test_a_resumed_training_goes_on(clock, seconds):
    whole = start()
    train(whole, clock, seconds)
    first = start()
    train(first, clock, seconds, most=700)
    state = first.get_state()
    # A hundred updates are lost, and a day passes.
    train(first, clock, seconds, most=100)
    clock.now += 86400
    second = start(state=state)
    train(second, clock, seconds)
    rates = first.model.rates[:700] + second.model.rates
    assert_smooth(rates)
    # The first update after a start does not count in time: it compiles.
    assert abs(second.step - whole.step) <= 1
    count = min(len(rates), len(whole.model.rates))
    np.testing.assert_allclose(
        rates[:count], whole.model.rates[:count], atol=2 * FALL
    )
    if seconds != SLOW:
        assert rates == pytest.approx(whole.model.rates, rel=1e-9)


def test_a_killed_training_has_no_second_budget(clock):
    """Killed over and over, it ends when its budget is spent."""
    state, minutes = None, 0
    while True:
        schedule = start(state=state)
        if schedule.model.stop_training:
            break
        train(schedule, clock, SLOW, most=50)
        state = schedule.get_state()
        assert state["minutes"] >= minutes
        minutes = state["minutes"]
    assert minutes == pytest.approx(7.0, rel=0.01)
    # The end is the end: nothing is trained after it.
    again = start(state=state)
    assert train(again, clock, SLOW) == 0 and again.learning_rate() == 0.0


def test_going_back_to_a_checkpoint_counts_updates_once(clock):
    schedule = start()
    train(schedule, clock, FAST, most=100)
    state = schedule.get_state()
    train(schedule, clock, FAST, most=30)
    schedule.set_state(state)
    assert schedule.get_state() == state
    assert train(schedule, clock, FAST) == 3500


def test_what_is_left_is_foretold(clock):
    schedule = start()
    train(schedule, clock, FAST, most=1001)
    steps, minutes, too_short = schedule.remaining()
    assert (steps, too_short) == (2599, False)
    assert minutes == pytest.approx(2599 * FAST / 60)

    schedule = start()
    train(schedule, clock, SLOW, most=1001)
    steps, minutes, too_short = schedule.remaining()
    assert minutes == pytest.approx(7 - 1000 * SLOW / 60) and not too_short
    assert steps == pytest.approx(60 * minutes / SLOW)

    schedule = start()
    train(schedule, clock, SLOWEST, most=300)
    steps, minutes, too_short = schedule.remaining()
    assert too_short and steps == pytest.approx(901, abs=0.5)
    assert minutes == pytest.approx(steps * SLOWEST / 60)
    # The pace is that of this machine, not of the one before a restart.
    resumed = start(state=schedule.get_state())
    train(resumed, clock, FAST, most=11)
    assert resumed.remaining()[1] < 900 * SLOWEST / 60 / 10

    train(schedule, clock, SLOWEST)
    assert schedule.remaining()[:2] == (0, 0)


def test_the_rate_rises_then_falls_to_zero_with_the_steps(clock):
    config = TrainingBudget(
        steps=100, peak_learning_rate=2.0, warmup=0.1, max_minutes=0
    )
    schedule = start(config)
    train(schedule, clock, 1.0)
    rates = [*schedule.model.rates, schedule.learning_rate()]
    assert rates[0] > 0
    assert np.argmax(rates) == 10 and rates[10] == pytest.approx(2.0)
    assert np.all(np.diff(rates[:11]) >= 0) and np.all(np.diff(rates[10:]) < 0)
    assert rates[100] == 0.0
