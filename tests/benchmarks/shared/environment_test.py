import sys

import pytest

from benchmarks.shared import environment


def test_a_command_answers_with_what_it_printed():
    code = "import os; print(os.environ['WORD'], os.getcwd())"
    said = environment.run([sys.executable, "-c", code], {"WORD": "ready"})
    assert said.split() == ["ready", str(environment.ROOT)]


def test_what_a_failed_command_said_is_told():
    code = "raise SystemExit('no such peer')"
    with pytest.raises(RuntimeError, match="no such peer"):
        environment.run([sys.executable, "-c", code], {})
