"""Chooses the examples that are worth learning from, as a component."""

import json
import os
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import keras
from tfx import types
from tfx.dsl.components.base import base_beam_component
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.component_spec import ComponentSpec
from tfx.types.component_spec import ExecutionParameter

from keras_moe.components._artifact_files import read_locally
from keras_moe.components._artifact_files import written_locally
from keras_moe.components.data._choose import Chosen
from keras_moe.components.data._choose import FindCut
from keras_moe.components.data._choose import KeepChosen
from keras_moe.components.data._choose import ScoreShard
from keras_moe.components.data._choose import WriteWeighted
from keras_moe.components.data._derived_examples import copy_splits
from keras_moe.components.data._derived_examples import name_splits
from keras_moe.components.data._pool import Models
from keras_moe.components.data._pool import ReadPool
from keras_moe.components.data._pool import check_splits
from keras_moe.components.data._pool import files_of
from keras_moe.components.retrieval._encoder import check_signature
from keras_moe.components.retrieval._encoder import encoder_path
from keras_moe.data import Selector
from keras_moe.data._draws import check_round
from keras_moe.validation import check_size

_REPORT = "selection.json"


class SubsetSelectorExecutor(base_beam_executor.BaseBeamExecutor):
    """Writes the chosen examples, in shards, and copies other splits."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Chooses.

        Raises:
            ValueError: if the budget is above the pool, or a model, a split, a
                key or a label is not as it must be. Nothing is written then.
        """
        settings = json.loads(exec_properties["settings"])
        examples = input_dict["examples"]
        check_splits(examples, settings["splits"])
        paths = [
            encoder_path(input_dict[name])
            for name in ("model", "other_model")
            if input_dict.get(name)
        ]
        for path in paths:
            check_signature(
                path, settings["signature_name"], settings["output"]
            )
        made = artifact_utils.get_single_instance(
            output_dict["selected_examples"]
        )
        folders = name_splits(examples, made)
        shards = settings["num_shards"]
        with self._make_beam_pipeline() as pipeline:
            scored = (
                pipeline
                | "Files" >> beam.Create(files_of(examples, settings["splits"]))
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.ParDo(ReadPool(settings["key"], shards))
                | "Gather" >> beam.GroupByKey()
                | "Score"
                >> beam.ParDo(
                    ScoreShard(
                        settings["selector"],
                        Models(
                            paths,
                            settings["signature_name"],
                            settings["output"],
                            settings["batch_size"],
                        ),
                        settings["label_key"],
                        settings["seed"],
                        settings["round"],
                    )
                )
            )
            found = scored | "Cut" >> beam.CombineGlobally(
                FindCut(settings["budget"], settings["key"])
            )
            chosen = beam.pvalue.AsSingleton(found)
            kept = scored | "Keep" >> beam.ParDo(
                KeepChosen(settings["selector"]), chosen
            )
            # Shards that nothing falls into are written, too: readers expect
            # as many files as their names say.
            every = [
                ((split, shard), None)
                for split in settings["splits"]
                for shard in range(shards)
            ]
            _ = (
                (kept, pipeline | "Shards" >> beam.Create(every))
                | "Join" >> beam.Flatten()
                | "Sort" >> beam.GroupByKey()
                | "Write" >> beam.ParDo(WriteWeighted(folders, shards))
                | "Count" >> beam.CombineGlobally(sum)
                | "Report" >> beam.Map(_write_report, chosen, made.uri)
            )
        copy_splits(examples, folders, settings["splits"])
        with read_locally(os.path.join(made.uri, _REPORT)) as local:
            report = json.loads(local.read_text())
        for name, number in report.items():
            made.set_int_custom_property(name, number)


def _write_report(written: int, chosen: Chosen, uri: str) -> None:
    report = {
        "examples": written,
        "pool": chosen.cut.pool,
        "topped_up": chosen.cut.topped_up,
        "repeated_keys": chosen.repeated,
        "without_key": chosen.without_key,
    }
    with written_locally(uri) as folder:
        (folder / _REPORT).write_text(json.dumps(report, indent=2) + "\n")


class SubsetSelectorSpec(ComponentSpec):
    """Parameters, inputs and outputs of `SubsetSelector`."""

    PARAMETERS = {"settings": ExecutionParameter(type=str)}
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "model": ChannelParameter(type=standard_artifacts.Model, optional=True),
        "other_model": ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
    }
    OUTPUTS = {
        "selected_examples": ChannelParameter(type=standard_artifacts.Examples)
    }


class SubsetSelector(base_beam_component.BaseBeamComponent):
    """Chooses the examples that are worth learning from, in Beam.

    Writes the chosen examples of some splits, each with a feature
    `example_weight`, and the other splits as they are. A draw is a hash of an
    example's key, the seed and the round: a second run, and any number of
    workers, write the same files, of exactly `budget` examples. They are those
    that `Selector.select` chooses in memory with the same keys, where each
    example has its own.

    Examples of the same key have the same draw. Where the budget ends among
    some of equal scores, their content decides (in memory, their place), and of
    copies as many are kept as it takes. Examples without a key are drawn by
    their content. Both are counted.

    A trainer takes the weights out of the inputs by
    `keras_moe.data.with_example_weights`. TFX's Transform keeps only what
    `preprocessing_fn` returns: choose after it, or return the column there.

    Inputs:
        examples: `Examples`, compressed TFRecords of `tf.train.Example`s.
        model: `Model` that the selector asks; none for `RandomSelector`.
        other_model: `Model`, for a selector that compares two.

    Outputs:
        selected_examples: `Examples`, with the custom properties `examples`
            and `pool` (how many were chosen, of how many), `topped_up` (drawn
            for want of others), `repeated_keys` and `without_key`; also in
            `selection.json`.

    Args:
        examples: the channel of that input.
        selector: a `keras_moe.data.Selector` that looks at one row at a time,
            which all but `RobustActiveSelector` do.
        budget: examples of all `splits` together.
        key: of the examples' features: one text or integer, which tells an
            example from others.
        model: the channel of that input.
        other_model: the channel of that input.
        label_key: of the examples' features: an integer, the class; for
            `ImportanceSelector("disagreement")`.
        signature_name: a signature of the models that takes serialized
            examples alone.
        output: of that signature, `[batch, classes]`: probabilities, or logits
            if the selector is made for them.
        splits: of the examples, one pool.
        seed: of the draws.
        round: of the draws: each has others.
        num_shards: files of each split; a worker holds one in memory.
        batch_size: examples of a call.

    Example:
    ```python
    chosen = keras_moe.components.SubsetSelector(
        examples=transform.outputs["transformed_examples"],
        selector=keras_moe.data.ImportanceSelector("entropy"),
        budget=5000,
        key="identifier",
        model=trainer.outputs["model"],
        signature_name="serve_examples",
    )
    ```
    """

    SPEC_CLASS = SubsetSelectorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(SubsetSelectorExecutor)

    def __init__(
        self,
        examples: types.BaseChannel,
        selector: Selector,
        budget: int,
        key: str,
        model: types.BaseChannel | None = None,
        other_model: types.BaseChannel | None = None,
        label_key: str | None = None,
        signature_name: str = "serving_default",
        output: str = "probabilities",
        splits: Sequence[str] = ("train",),
        seed: int = 0,
        round: int = 0,
        num_shards: int = 8,
        batch_size: int = 512,
    ) -> None:
        check_size(budget=budget, num_shards=num_shards, batch_size=batch_size)
        check_round(seed, round)
        models = [each for each in (model, other_model) if each is not None]
        _check_selector(selector, len(models), label_key)
        settings = {
            "selector": keras.saving.serialize_keras_object(selector),
            "budget": budget,
            "key": key,
            "label_key": label_key,
            "signature_name": signature_name,
            "output": output,
            "splits": list(splits),
            "seed": seed,
            "round": round,
            "num_shards": num_shards,
            "batch_size": batch_size,
        }
        super().__init__(
            SubsetSelectorSpec(
                examples=examples,
                model=model,
                other_model=other_model,
                settings=json.dumps(settings, sort_keys=True),
                selected_examples=types.Channel(
                    type=standard_artifacts.Examples
                ),
            )
        )


def _check_selector(
    selector: Selector, num_models: int, label_key: str | None
) -> None:
    if not isinstance(selector, Selector):
        raise ValueError(
            "`selector` must be a `keras_moe.data.Selector`. Received: "
            f"selector={selector!r}."
        )
    name = type(selector).__name__
    if not selector.is_row_wise:
        raise ValueError(
            "`selector` must look at one example at a time, since no worker "
            f"sees all. Received: {name}, which needs all scores at once."
        )
    if num_models != selector.num_models:
        raise ValueError(
            f"`model` and `other_model` must be {selector.num_models} models "
            f"for {name}. Received: {num_models}."
        )
    if selector.needs_labels and label_key is None:
        raise ValueError(
            f"`label_key` must be given for {name}, which reads labels. "
            "Received: label_key=None."
        )
