"""The local runner, killed at places that a test names, one after another.

    python -m tests.pipelines.g2p.killed_runner PLACE,PLACE... FLAGS...

A place is the name of a component, which then is the last that ends; or
`teaching`, `distilling`, `pushing` or `recording`: inside the training of the
teacher and of the student, with a version half written, and with a version
pushed of which the metadata know nothing. After each, a line says how the
runner ended and what versions a server would see.

Runners are forks of this process, which imports TFX once and computes nothing.
"""

import os
import signal
import sys

import pipelines  # noqa: F401

# isort: split
import json

# What the runner would import late.
import pipelines.g2p.pipeline  # noqa: F401
from keras_moe.components.pushing import _pusher as pusher
from keras_moe.orchestration import ComponentProgress
from keras_moe.serving import newest_version
from keras_moe.serving import push_version
from keras_moe.training import BudgetedSchedule
from pipelines.g2p import local_runner
from pipelines.g2p.configs import COMMAND_LINE
from pipelines.g2p.modules import training

# The update at which a training is killed, by the kind of the model.
UPDATES = {
    "teaching": ("SwitchTransformer", 11),
    "distilling": ("EarlyExitDistiller", 77),
}
# In the middle of an epoch, and not just before the kill.
training.UPDATES_BETWEEN_CHECKPOINTS = 4


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(place):
    """Makes the process kill itself where it is to."""
    if place in UPDATES:
        kind, update = UPDATES[place]
        count = BudgetedSchedule.on_train_batch_end

        def count_and_die(self, batch, logs=None):
            count(self, batch, logs)
            if (type(self.model).__name__, self.step) == (kind, update):
                kill()

        BudgetedSchedule.on_train_batch_end = count_and_die
    elif place == "pushing":
        # Of the module: the package has a function of this name.
        sys.modules[push_version.__module__]._flush = kill
    elif place == "recording":

        def push_and_die(*args, **kwargs):
            push_version(*args, **kwargs)
            kill()

        pusher.push_version = push_and_die
    else:
        end = ComponentProgress.end

        def end_and_die(self, run):
            end(self, run)
            if run.name == place:
                kill()

        ComponentProgress.end = end_and_die


def run(place, flags):
    """Runs the pipeline in a fork; returns how that ended."""
    child = os.fork()
    if not child:
        arm(place)
        os._exit(local_runner.main(flags))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(places, flags):
    parser = COMMAND_LINE.parser("killed_runner")
    serving = COMMAND_LINE.parse(parser, flags)[1].serving_dir
    for place in places:
        code = run(place, flags)
        newest = newest_version(serving)
        line = {
            "place": place,
            "code": code,
            "served": newest and newest.name,
            "versions": [path.name for path in serving.glob("[0-9]*")],
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2:])
