"""The model that was blessed before an artifact existed."""

import json
import logging
from typing import Any

import ml_metadata as mlmd
from tfx import types
from tfx import v1 as tfx
from tfx.orchestration.portable.mlmd import event_lib

_LOG = logging.getLogger(__name__)
_CURRENT_MODEL = "current_model_id"
_BLESSED = "blessed"
# The input keys of a calibrator and of `Distiller` that lead from a certified
# model back to its teacher. Of a cascade the small model is the student.
_TO_TEACHER = (("student", "small"), ("teacher",))


class BlessedBefore(tfx.dsl.experimental.ResolverStrategy):
    """Resolves the last model that was blessed before an artifact existed.

    In a second run on unchanged data, TFX's `LatestBlessedModelStrategy` finds
    the model of the first run. A component that compares with that model or
    starts from it has a new input, and runs again, for ever. "Before these
    examples" and "before this candidate" are the same in each run, until there
    are other examples or another candidate.

    Channels of the resolver:
        before: what the model must be older than; of this pipeline.
        model: of all models.
        model_blessing: of all blessings.
        teacher: of all models, optional: resolved to the teacher that the
            model's student was distilled from.

    Where there is no such model, nothing is resolved: use it for optional
    inputs.

    A model that was trained on other splits may have seen what is held out now,
    and a certificate or a blessing of what goes on from it would be void. With
    `splits`, such a model is not resolved, and a warning says so.

    Args:
        splits: tells how examples are split now. A model is resolved only if
            the executions that made it, its student and its teacher have the
            same in `custom_config["splits"]`; each of them went on from one
            for which that held, and so on. `None` resolves any.

    Example:
    ```python
    tfx.dsl.Resolver(
        strategy_class=keras_moe.components.BlessedBefore,
        before=example_gen.outputs["examples"],
        model=tfx.dsl.Channel(type=standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("warm_start")
    ```
    """

    def __init__(self, splits: str | None = None) -> None:
        self._splits = splits

    def resolve_artifacts(
        self,
        store: mlmd.MetadataStore,
        input_dict: dict[str, list[types.Artifact]],
    ) -> dict[str, list[types.Artifact]]:
        """Returns one artifact for each channel, or none for all but `before`.

        Args:
            store: the metadata.
            input_dict: the candidates of each channel.
        """
        resolved: dict[str, list[types.Artifact]] = dict.fromkeys(
            input_dict, []
        )
        before = input_dict["before"]
        resolved["before"] = before
        # ML Metadata counts ids up: a lower one means an earlier artifact.
        horizon = min((artifact.id for artifact in before), default=0)
        blessings = {
            blessing.get_int_custom_property(_CURRENT_MODEL): blessing
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(_BLESSED) == 1
            and blessing.id < horizon
        }
        models = [m for m in input_dict["model"] if m.id in blessings]
        if not models:
            return resolved
        model = max(models, key=lambda m: m.id)
        if self._splits is not None:
            trained = _splits_of(store, model.id)
            if trained != {self._splits}:
                _LOG.warning(
                    "The blessed model %d was trained on the splits %s, and "
                    "now they are %s: what is held out may have been learned. "
                    "Training begins cold.",
                    model.id,
                    sorted(map(str, trained)),
                    self._splits,
                )
                return resolved
        resolved["model"] = [model]
        resolved["model_blessing"] = [blessings[model.id]]
        if "teacher" in input_dict:
            teacher = _ancestor(store, model.id, _TO_TEACHER)
            resolved["teacher"] = [
                candidate
                for candidate in input_dict["teacher"]
                if candidate.id == teacher
            ]
        return resolved


def _ancestor(
    store: mlmd.MetadataStore,
    artifact_id: int,
    steps: tuple[tuple[str, ...], ...],
) -> int | None:
    """Follows an artifact back through the inputs that made it."""
    current: int | None = artifact_id
    for keys in steps:
        if current is None:
            return None
        current = _made_from(store, current, keys)
    return current


def _made_from(
    store: mlmd.MetadataStore, artifact_id: int, keys: tuple[str, ...]
) -> int | None:
    """Returns the input of the first of some keys that the maker had."""
    makers = _makers(store, artifact_id)
    # The first execution made the artifact; later ones took it from the cache.
    for event in store.get_events_by_execution_ids(makers[:1]):
        for key in keys:
            if event_lib.is_valid_input_event(event, expected_input_key=key):
                return event.artifact_id
    return None


def _splits_of(store: mlmd.MetadataStore, artifact_id: int) -> set[str | None]:
    """Returns the splits that student and teacher of a model were trained on.

    `None` is among them where an execution does not say.
    """
    found = set()
    student = _ancestor(store, artifact_id, _TO_TEACHER[:1])
    teacher = _ancestor(store, artifact_id, _TO_TEACHER)
    for trained in (student, teacher):
        if trained is not None:
            found.add(_splits_noted(store, trained))
    return found


def _splits_noted(store: mlmd.MetadataStore, artifact_id: int) -> str | None:
    makers = _makers(store, artifact_id)[:1]
    for execution in store.get_executions_by_id(makers):
        # TFX keeps parameters of the component's schema under `properties`.
        text = (
            execution.properties["custom_config"].string_value
            or execution.custom_properties["custom_config"].string_value
        )
        try:
            config: Any = json.loads(text)
            return config["splits"]
        except (KeyError, TypeError, ValueError):
            return None
    return None


def _makers(store: mlmd.MetadataStore, artifact_id: int) -> list[int]:
    return [
        event.execution_id
        for event in store.get_events_by_artifact_ids([artifact_id])
        if event_lib.is_valid_output_event(event)
    ]
