"""The runner tells what each component made, and why it failed."""

import pytest
from tfx import v1 as tfx
from tfx.types.standard_artifacts import Model

from keras_moe.components import GateClosedError
from keras_moe.orchestration import ComponentFailedError
from keras_moe.orchestration import ReportingRunner
from keras_moe.orchestration import make_pipeline
from tests.orchestration import toys

pytestmark = pytest.mark.tfx


class Fails(tfx.dsl.experimental.ResolverStrategy):
    def resolve_artifacts(self, store, input_dict):
        raise LookupError("the shelf is empty")


@pytest.fixture
def config(tmp_path):
    return toys.ToyConfig(output=tmp_path)


def test_components_are_told_in_order(config):
    started, ended = [], []
    runner = ReportingRunner(started.append, ended.append)
    runner.run(toys.create_pipeline(config))
    assert started == ["Maker", "Judge", "Pusher"]
    assert ended == runner.runs
    assert [run.name for run in ended] == started
    assert all(run.seconds > 0 and not run.cached for run in ended)
    assert ended[0].artifact("model").uri.startswith(str(config.pipeline_root))


def test_uncached_components_run_again(config):
    ReportingRunner().run(toys.create_pipeline(config))
    runner = ReportingRunner(uncached=["Judge"])
    runner.run(toys.create_pipeline(config))
    # What depends on the new blessing runs too.
    assert {run.name: run.cached for run in runner.runs} == {
        "Maker": True,
        "Judge": False,
        "Pusher": False,
    }


def test_a_partial_run_is_refused(config):
    with pytest.raises(ValueError, match="`run_options` must be `None`"):
        ReportingRunner().run_with_ir(None, run_options=object())


def test_a_resolver_that_fails_is_a_failure(config):
    # TFX goes on, as if there were nothing to be found.
    resolver = tfx.dsl.Resolver(
        strategy_class=Fails, model=tfx.dsl.Channel(type=Model)
    ).with_id("shelf")
    with pytest.raises(ComponentFailedError) as raised:
        ReportingRunner().run(make_pipeline(config, [resolver]))
    assert str(raised.value) == (
        "shelf failed: RuntimeError: LookupError: the shelf is empty"
    )


def test_the_message_is_the_first_cause():
    def wrapped(cause):
        try:
            try:
                raise cause
            except Exception as error:
                raise RuntimeError("while running the bundle") from error
        except RuntimeError as outer:
            return outer

    failure = ComponentFailedError("Trainer", wrapped(KeyError("loss")))
    assert str(failure) == "Trainer failed: KeyError: 'loss'"
    assert not failure.gate_closed
    # The reason for closing a gate stands for itself, whatever caused it.
    try:
        raise GateClosedError("no certificate") from ValueError("n is 0")
    except GateClosedError as gate:
        closed = ComponentFailedError("ExitCalibrator", wrapped(gate))
    assert (str(closed), closed.gate_closed) == ("no certificate", True)
