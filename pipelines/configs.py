"""Everything that can be chosen about a pipeline run, in one object."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping

from pipelines.data.splits import DEFAULT_FRACTIONS
from pipelines.data.splits import SPLITS

PIPELINE_NAME = "g2p"
MODEL_NAME = "g2p"


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """The configuration of a run. `dataclasses.replace` makes variations.

    Attributes:
        output: Where all that is made goes: data, metadata, models.
        dictionary: A CSV file with the columns `word` and `pronunciation`, or
            `None` for the installed CMU dictionary.
        keep_stress: Whether vowels keep their stress digit.
        max_words: Use only a fixed sample of so many words; `None` for all.
        fractions: The shares of train, validation, calibration and test.
        preset: The `SwitchTransformer` preset to train.
        training: Overrides of the fields of
            `pipelines.modules.training.TrainingConfig`.
        max_phoneme_error_rate: The Evaluator blesses no model above it.
        beam_pipeline_args: Flags for Beam, such as `--runner=FlinkRunner`.
        enable_cache: Whether components whose inputs did not change are
            skipped.
    """

    output: pathlib.Path = pathlib.Path("build/demo")
    dictionary: pathlib.Path | None = None
    keep_stress: bool = False
    max_words: int | None = None
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS
    preset: str = "switch_g2p_demo"
    training: Mapping[str, int | float] = dataclasses.field(
        default_factory=dict
    )
    max_phoneme_error_rate: float = 0.15
    # One thread: the work is small, and a second one only contends for it.
    beam_pipeline_args: tuple[str, ...] = ("--direct_num_workers=1",)
    enable_cache: bool = True

    def __post_init__(self) -> None:
        # Absolute paths: they go into the metadata, which outlives this run.
        object.__setattr__(self, "output", pathlib.Path(self.output).resolve())
        if self.dictionary is not None:
            dictionary = pathlib.Path(self.dictionary).resolve()
            object.__setattr__(self, "dictionary", dictionary)
        _check_fractions(self.fractions)
        _check_training(self.training)
        _check_preset(self.preset)
        if self.max_words is not None and self.max_words < 1:
            raise ValueError(
                "`max_words` must be `None` or a positive integer. "
                f"Received: max_words={self.max_words!r}"
            )
        if not self.max_phoneme_error_rate > 0:
            raise ValueError(
                "`max_phoneme_error_rate` must be positive. Received: "
                f"max_phoneme_error_rate={self.max_phoneme_error_rate!r}"
            )

    @property
    def data_dir(self) -> pathlib.Path:
        """Where the split TFRecord files are."""
        return self.output / "data"

    @property
    def pipeline_root(self) -> pathlib.Path:
        """Where the components' artifacts are."""
        return self.output / "pipeline"

    @property
    def metadata_path(self) -> pathlib.Path:
        """The SQLite file of ML Metadata."""
        return self.output / "metadata.sqlite"

    @property
    def serving_dir(self) -> pathlib.Path:
        """The directory of pushed versions that a model server watches."""
        return self.output / "serving" / MODEL_NAME


def _check_fractions(fractions: tuple[float, ...]) -> None:
    if (
        len(fractions) != len(SPLITS)
        or not all(fraction > 0 for fraction in fractions)
        or not math.isclose(sum(fractions), 1.0)
    ):
        raise ValueError(
            f"`fractions` must be {len(SPLITS)} positive numbers that sum to "
            f"1, for {', '.join(SPLITS)}. Received: fractions={fractions!r}"
        )


def _check_preset(preset: str) -> None:
    from keras_moe.models import SwitchTransformer

    if preset not in SwitchTransformer.presets:
        raise ValueError(
            "`preset` must be one of "
            f"{', '.join(sorted(SwitchTransformer.presets))}. "
            f"Received: preset={preset!r}"
        )


def _check_training(training: Mapping[str, int | float]) -> None:
    # Imported late: it brings TensorFlow, which a command line need not wait
    # for to print its help.
    from pipelines.modules.training import TrainingConfig

    known = {field.name for field in dataclasses.fields(TrainingConfig)}
    unknown = sorted(set(training) - known)
    if unknown:
        raise ValueError(
            f"`training` must name fields of `TrainingConfig`: "
            f"{', '.join(sorted(known))}. Received: {', '.join(unknown)}"
        )
    TrainingConfig(**training)  # it checks the values
