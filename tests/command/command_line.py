"""Runs subcommands of `keras-moe` in this process."""

import json

from typer.testing import CliRunner

from keras_moe.command._app import app


def run(*words, code=0):
    """Returns what a subcommand did, which must end with this exit code."""
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def facts(*words):
    """Returns what a subcommand answers with `--json`."""
    return json.loads(run(*words, "--json").stdout)


def refusal(*words):
    """Returns why a subcommand ends with 1, the same in words and as JSON."""
    said = json.loads(run(*words, "--json", code=1).stdout)["error"]
    plain = run(*words, code=1)
    assert said in plain.stderr and not plain.stdout
    assert "\n" not in said
    return said
