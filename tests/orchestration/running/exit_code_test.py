"""A command's last line and exit code."""

import io

import pytest
from rich.console import Console

from keras_moe.orchestration import RunConfig
from keras_moe.orchestration import exit_code


def end(error, output):
    console = Console(file=io.StringIO(), width=300)

    def work():
        raise error

    code = exit_code(work, RunConfig(output=output), console)
    return code, console.file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("`x` must be 1."), "Stopped. `x` must be 1."),
        (ValueError("one\n  two\n"), "Stopped. one two"),
        (KeyError("x"), "Stopped. KeyError: 'x'"),
        (ValueError(), "Stopped. ValueError"),
        (ValueError("[red]x[/blue]"), "Stopped. [red]x[/blue]"),
        (SystemExit(0), "Stopped. SystemExit: 0"),
    ],
)
def test_a_failure_is_one_line(tmp_path, error, line):
    code, (said, where) = end(error, tmp_path / "out")
    assert (code, said) == (1, line)
    log = tmp_path / "out" / "failure.log"
    assert where == f"The traceback is in {log}"
    assert type(error).__name__ in log.read_text()


def test_an_interruption(tmp_path):
    assert end(KeyboardInterrupt(), tmp_path) == (
        130,
        ["Stopped. Interrupted."],
    )
