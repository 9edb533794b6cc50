"""The examples in the docstrings run, and print what they say."""

import pytest
import tensorflow as tf

from tests import docstrings

pytestmark = pytest.mark.long

# Wrapped around TFX, which takes long to import: see `tests/components`.
WITH_TFX = (
    "keras_moe.components",
    "keras_moe.orchestration.running._component_failed_error",
    "keras_moe.orchestration.running._reporting_runner",
)
# Of so many steps that their graph pays.
LONG = ".SequentialAttention"


def cases():
    for found in docstrings.documented(lambda n: not n.startswith(WITH_TFX)):
        if found.examples:
            yield pytest.param(found, id=found.name)


@pytest.mark.parametrize("case", list(cases()))
@pytest.mark.usefixtures("functions_run_eagerly")
def test_example(case, tmp_path):
    if case.name.endswith(LONG):
        tf.config.run_functions_eagerly(False)
    docstrings.run_prompted(case, tmp_path / "new")
