"""What any pipeline needs to run well, here or in a cluster (extra `[tfx]`).

A project brings a configuration, a `preprocessing_fn`, a model function, a task
function, and a `create_pipeline` that puts them together.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING
from typing import Any

from keras_moe.tfx_needed import tfx_needed

if find_spec("tfx") is None:
    raise tfx_needed(__name__)

from keras_moe.orchestration._code_fingerprint import (
    code_fingerprint as code_fingerprint,
)
from keras_moe.orchestration._code_fingerprint import (
    training_fingerprint as training_fingerprint,
)
from keras_moe.orchestration._make_pipeline import (
    make_pipeline as make_pipeline,
)
from keras_moe.orchestration._places import Places as Places
from keras_moe.orchestration._places import find_places as find_places
from keras_moe.orchestration._shared_nodes import example_nodes as example_nodes
from keras_moe.orchestration._shared_nodes import last_blessed as last_blessed
from keras_moe.orchestration._shared_nodes import push_node as push_node
from keras_moe.orchestration.configuration._cluster_config import (
    ClusterConfig as ClusterConfig,
)
from keras_moe.orchestration.configuration._command_line import (
    CommandLine as CommandLine,
)
from keras_moe.orchestration.configuration._fields import Fraction as Fraction
from keras_moe.orchestration.configuration._fields import Positive as Positive
from keras_moe.orchestration.configuration._fields import (
    SplitShares as SplitShares,
)
from keras_moe.orchestration.configuration._flag import Flag as Flag
from keras_moe.orchestration.configuration._load_config import (
    load_config as load_config,
)
from keras_moe.orchestration.configuration._local_path import (
    LocalPath as LocalPath,
)
from keras_moe.orchestration.configuration._resources import (
    Resources as Resources,
)
from keras_moe.orchestration.configuration._run_config import (
    RunConfig as RunConfig,
)
from keras_moe.orchestration.configuration._section import Section as Section
from keras_moe.orchestration.configuration._training_section import (
    TrainingSection as TrainingSection,
)
from keras_moe.orchestration.examples._pairs import Pairs as Pairs
from keras_moe.orchestration.examples._pairs import (
    prepare_pairs as prepare_pairs,
)
from keras_moe.orchestration.examples._pairs import read_pairs as read_pairs
from keras_moe.orchestration.examples._records import (
    read_records as read_records,
)
from keras_moe.orchestration.examples._records import (
    text_example as text_example,
)
from keras_moe.orchestration.examples._records import (
    verify_records as verify_records,
)
from keras_moe.orchestration.examples._records import (
    write_records as write_records,
)
from keras_moe.orchestration.examples._spans import Span as Span
from keras_moe.orchestration.examples._spans import prepare_span as prepare_span
from keras_moe.orchestration.examples._spans import span_of as span_of
from keras_moe.orchestration.examples._splits import (
    DEFAULT_FRACTIONS as DEFAULT_FRACTIONS,
)
from keras_moe.orchestration.examples._splits import SPLITS as SPLITS
from keras_moe.orchestration.examples._splits import (
    hash_position as hash_position,
)
from keras_moe.orchestration.examples._splits import split_of as split_of
from keras_moe.orchestration.running._component_progress import (
    ComponentProgress as ComponentProgress,
)
from keras_moe.orchestration.running._component_run import (
    ComponentRun as ComponentRun,
)
from keras_moe.orchestration.running._demo_command import (
    ask_both_ways as ask_both_ways,
)
from keras_moe.orchestration.running._demo_command import (
    demo_command as demo_command,
)
from keras_moe.orchestration.running._demo_command import served as served
from keras_moe.orchestration.running._exit_code import (
    NothingPushedError as NothingPushedError,
)
from keras_moe.orchestration.running._exit_code import exit_code as exit_code
from keras_moe.orchestration.running._exit_code import (
    require_pushed as require_pushed,
)
from keras_moe.orchestration.running._kubeflow_runner import (
    KubeflowRunner as KubeflowRunner,
)
from keras_moe.orchestration.running._local_runner import (
    LocalRunner as LocalRunner,
)
from keras_moe.orchestration.running._only_runner import (
    AnotherRunnerError as AnotherRunnerError,
)
from keras_moe.orchestration.running._only_runner import (
    only_runner as only_runner,
)
from keras_moe.orchestration.running._outcome import Outcome as Outcome
from keras_moe.orchestration.running._outcome import (
    read_outcome as read_outcome,
)
from keras_moe.orchestration.running._silence_frameworks import (
    silence_frameworks as silence_frameworks,
)

if TYPE_CHECKING:
    from keras_moe.orchestration.running._component_failed_error import (
        ComponentFailedError as ComponentFailedError,
    )
    from keras_moe.orchestration.running._reporting_runner import (
        ReportingRunner as ReportingRunner,
    )

# Importing their modules imports TFX, which takes seconds: a command's `--help`
# and its first lines need not wait for it.
_WITH_TFX = {
    "ComponentFailedError": "running._component_failed_error",
    "ReportingRunner": "running._reporting_runner",
}


def __getattr__(name: str) -> Any:
    """Imports the names that need TFX when they are asked for."""
    if name in _WITH_TFX:
        module = importlib.import_module(f"{__name__}.{_WITH_TFX[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
