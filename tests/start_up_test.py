"""Start-up messages are dropped, and nothing else is."""

import gc
import os
import subprocess
import sys

import pytest

from keras_moe.start_up import VARIABLE
from keras_moe.start_up import garbage_left_alone
from keras_moe.start_up import start_up_messages_left_out

NOISE = b"I0000 00:00:1 port.cc:153] oneDNN custom operations are on.\n"
BEFORE = b"WARNING: All log messages before absl::InitializeLog() ...\n"


def test_other_lines_are_passed_on(capfd):
    with start_up_messages_left_out():
        os.write(2, BEFORE + NOISE + b"E0000 out of memory\nhm I0000 \n")
        print("from Python", file=sys.stderr)
    assert sorted(capfd.readouterr().err.splitlines()) == [
        "E0000 out of memory",
        "from Python",
        "hm I0000 ",
    ]


def test_an_error_loses_nothing_that_was_written(capfd):
    with pytest.raises(ImportError), start_up_messages_left_out():
        os.write(2, NOISE + b"why\n")
        raise ImportError
    os.write(2, NOISE)
    assert capfd.readouterr().err == "why\n" + NOISE.decode()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_afterwards_if_it_was_before(enabled):
    try:
        if not enabled:
            gc.disable()
        with pytest.raises(ImportError), garbage_left_alone():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


@pytest.mark.large
@pytest.mark.parametrize("first", ["import pipelines", "pass"])
def test_a_process_that_asks_for_it_starts_quietly(first):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in (VARIABLE, "TF_CPP_MIN_LOG_LEVEL")
    }
    if first == "pass":
        environment[VARIABLE] = "1"
    done = subprocess.run(
        [sys.executable, "-c", f"{first}\nimport keras_moe"],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
