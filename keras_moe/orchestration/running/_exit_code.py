"""The exit code and the last lines of a command, from how it ended."""

import traceback
from collections.abc import Callable

import rich.markup
from rich.console import Console

from keras_moe.orchestration.configuration._run_config import RunConfig
from keras_moe.orchestration.running._outcome import Outcome

# Errors whose message is a sentence; others need their name to be understood.
_WITH_A_SENTENCE = (ImportError, OSError, RuntimeError, ValueError)
_INTERRUPTED = 130  # as shells have it


class NothingPushedError(RuntimeError):
    """The pipeline ran, and no model is there to be served.

    Example:
    >>> from rich.console import Console
    >>> outcome = keras_moe.orchestration.Outcome(
    ...     runs=(), pushed=None, reason="the Evaluator did not bless it"
    ... )
    >>> keras_moe.orchestration.require_pushed(outcome, Console())
    Traceback (most recent call last):
    keras_moe...NothingPushedError: Nothing was pushed: the Evaluator did not...
    """


def require_pushed(outcome: Outcome, console: Console) -> None:
    """Prints what was pushed.

    Example:
    >>> import pathlib, sys
    >>> from rich.console import Console
    >>> run = keras_moe.orchestration.ComponentRun("Pusher", False, 0.1, {})
    >>> outcome = keras_moe.orchestration.Outcome(
    ...     runs=(run,), pushed=pathlib.Path("serving/mine/7"), reason=""
    ... )
    >>> console = Console(file=sys.stdout, width=80)
    >>> keras_moe.orchestration.require_pushed(outcome, console)
    Pushed version 7 to serving/mine

    Args:
        outcome: A run's.
        console: Where to.

    Raises:
        NothingPushedError: If nothing was pushed; the message says why.
    """
    if outcome.pushed is None:
        raise NothingPushedError(f"Nothing was pushed: {outcome.reason}.")
    if outcome.pushed_by_earlier_run:
        console.print(
            f"Nothing changed: version {outcome.pushed.name}, pushed by an "
            f"earlier run, stays in {outcome.pushed.parent}"
        )
    else:
        console.print(
            f"Pushed version {outcome.pushed.name} to {outcome.pushed.parent}"
        )


def exit_code(
    work: Callable[[], object], config: RunConfig, console: Console
) -> int:
    """Does the work of a command, and returns the command's exit code.

    A failure is printed in one line; its traceback goes to `failure.log` of
    the configuration's `output`, unless it is a gate that closed.

    Example:
    >>> import sys
    >>> from rich.console import Console
    >>> def work():
    ...     raise ValueError("`steps` must be positive. Received: steps=0")
    >>> keras_moe.orchestration.exit_code(
    ...     work,
    ...     keras_moe.orchestration.RunConfig(output=directory),
    ...     Console(file=sys.stdout, width=999),
    ... )
    Stopped. `steps` must be positive. Received: steps=0
    The traceback is in ...failure.log
    1

    Args:
        work: What the command does.
        config: The configuration.
        console: Where the sentence goes.

    Returns:
        0, 1 after a failure, or 130 after an interruption by Ctrl+C.
    """
    try:
        work()
    except KeyboardInterrupt:
        console.print("[bold red]Stopped.[/] Interrupted.")
        return _INTERRUPTED
    # `sys.exit()` somewhere in the work would pass for a success.
    except (Exception, SystemExit) as error:
        _report(error, config, console)
        return 1
    return 0


def _report(error: BaseException, config: RunConfig, console: Console) -> None:
    # Some messages have several lines, which the traceback keeps.
    message = " ".join(rich.markup.escape(str(error)).split())
    if not message or not isinstance(error, _WITH_A_SENTENCE):
        message = f"{type(error).__name__}: {message}".rstrip(": ")
    closed = getattr(error, "gate_closed", False)
    if closed:
        message = f"Nothing was pushed: {message.rstrip('.')}."
    console.print(f"[bold red]Stopped.[/] {message}", soft_wrap=True)
    if not (closed or isinstance(error, NothingPushedError)):
        log = config.output / "failure.log"
        text = "".join(traceback.format_exception(error))
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(text)
        except OSError:
            # The folder cannot be written, which may be the failure itself.
            console.print(text, markup=False, highlight=False)
        else:
            console.print(f"The traceback is in {log}", soft_wrap=True)
