"""Everything that can be chosen about a pipeline run, in one object."""

import pathlib
from typing import Annotated
from typing import Any
from typing import ClassVar
from typing import Literal

import pydantic
from pydantic import Field

from keras_moe import orchestration
from keras_moe.orchestration import DEFAULT_FRACTIONS
from keras_moe.orchestration import Flag
from keras_moe.orchestration import Fraction
from keras_moe.orchestration import LocalPath
from keras_moe.orchestration import Positive
from keras_moe.orchestration import Section
from keras_moe.orchestration import SplitShares
from keras_moe.orchestration import TrainingSection
from pipelines.g2p.modules.presets import PRESETS
from pipelines.g2p.modules.training_config import TrainingConfig

PIPELINE_NAME = "g2p"
MODEL_NAME = "g2p"

_SCHEMA = pathlib.Path(__file__).parent / "data" / "schema.pbtxt"


class DataConfig(Section):
    """The words that are learned from.

    Attributes:
        dictionary: a CSV file with the columns `word` and `pronunciation`, or
            `None` for the installed CMU dictionary.
        keep_stress: whether vowels keep their stress digit.
        max_words: use only a fixed sample of so many words; `None` for all.
        fractions: the shares of train, validation, calibration and test.
        schema_file: what the examples must look like; `None` to infer it from
            those of train (the first time, to have a file to start from).
    """

    dictionary: LocalPath | None = None
    keep_stress: bool = False
    max_words: Positive | None = None
    fractions: SplitShares = DEFAULT_FRACTIONS
    schema_file: LocalPath | None = _SCHEMA

    @pydantic.field_validator("dictionary", "schema_file")
    @classmethod
    def _check_file(cls, path: pathlib.Path | None) -> pathlib.Path | None:
        if path is not None and not path.is_file():
            raise ValueError("must be a file that exists")
        return path


class TeacherConfig(TrainingSection):
    """The sparse model.

    Attributes:
        preset: the size to train, see `pipelines.g2p.modules.presets`.
        training: how long and how; `max_minutes` is the budget of the stage,
            `min_steps` what it takes to pass the gate of the demo.
        strategy: which devices train in step, see
            `keras_moe.distribution.strategy`.
        tuner_trials: so many short trainings choose learning rate and label
            smoothing first; 0 for none.
    """

    preset: str = "switch_g2p_demo"
    # The fewest steps, of 1,000, 1,200, ..., with which the students of three
    # seeds pass the gate by a tenth: `python -m benchmarks.fewest_steps`.
    training: TrainingConfig = TrainingConfig(min_steps=1200, max_minutes=7.0)
    strategy: Literal["default", "mirrored", "multi_worker", "tpu"] = "default"
    tuner_trials: Annotated[int, Field(ge=0)] = 0

    @pydantic.field_validator("preset")
    @classmethod
    def _check_preset(cls, preset: str) -> str:
        if preset not in PRESETS:
            known = ", ".join(sorted(PRESETS))
            raise ValueError(f"must be one of {known}")
        return preset


class StudentConfig(TrainingSection):
    """The dense model that is served: as wide as the teacher, less deep.

    Attributes:
        num_encoder_layers: of the student.
        num_decoder_layers: of the student; each is an exit.
        training: how long and how; see `TeacherConfig`. `min_steps` is half as
            many as the teacher's.
        student_loss_weight: what labels count; the teacher has the rest.
    """

    num_encoder_layers: Positive = 2
    num_decoder_layers: Positive = 2
    training: TrainingConfig = TrainingConfig(
        steps=1500, min_steps=600, max_minutes=4.0, label_smoothing=0.0
    )
    student_loss_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.75


class ExitConfig(Section):
    """How early tokens may leave, and what that may cost.

    Attributes:
        confidence: see `keras_moe.generation.EarlyExitPolicy`.
        thresholds: candidates, from the safest to the boldest.
        tolerance: greatest phoneme error above that of the full student.
        confidence_level: with which probability that is to hold.
        max_words: calibrate on so many words: the budget of the stage.
    """

    confidence: Literal["softmax", "state", "entropy"] = "softmax"
    thresholds: Annotated[tuple[float, ...], Field(min_length=1)] = (
        *(0.99, 0.95, 0.9, 0.85, 0.8),
        *(0.75, 0.7, 0.6, 0.5),
    )
    tolerance: Fraction = 0.02
    confidence_level: Fraction = 0.95
    max_words: Positive = 6000

    @pydantic.field_validator("thresholds")
    @classmethod
    def _check_thresholds(
        cls, thresholds: tuple[float, ...]
    ) -> tuple[float, ...]:
        if list(thresholds) != sorted(set(thresholds), reverse=True):
            raise ValueError("must strictly decrease, from the safest on")
        # No confidence is above 1: tokens would never leave early.
        if not all(0.0 <= threshold <= 1.0 for threshold in thresholds):
            raise ValueError("must be between 0 and 1")
        return thresholds


class CascadeConfig(Section):
    """Whether the student hands hard words on to the teacher, and how many.

    Attributes:
        enabled: whether what is served is both of them; otherwise it is the
            student with its exits.
        budget: greatest share of words that go on to the teacher; or
        tolerance: greatest phoneme error of a word. One of the two is `None`.
        target: what decides, see `keras_moe.calibration.DeferralRule`.
        shares: of words that go on: the candidates.
        confidence_level: with which probability that is to hold.
        max_words: fit and calibrate on so many words each: the budget of the
            stage.
    """

    enabled: bool = False
    budget: Fraction | None = 0.3
    tolerance: Fraction | None = None
    target: Literal["gain", "confidence"] = "gain"
    shares: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (
        *(0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    )
    confidence_level: Fraction = 0.95
    max_words: Positive = 6000

    @pydantic.model_validator(mode="after")
    def _check_limit(self) -> "CascadeConfig":
        if (self.budget is None) == (self.tolerance is None):
            raise ValueError("must have either `budget` or `tolerance`")
        return self


class ServingConfig(Section):
    """The shapes for which XLA compiles the served model.

    Attributes:
        batch_sizes: numbers of words that are answered at once, increasing.
            Each takes a second or two of loading, for each length.
        lengths: of the words, as ids; longer ones are answered without XLA.
            None of both: nothing is compiled.
    """

    batch_sizes: tuple[Positive, ...] = (1, 8, 32)
    lengths: tuple[Positive, ...] = (8, 16)

    @pydantic.field_validator("batch_sizes", "lengths")
    @classmethod
    def _check_sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if list(sizes) != sorted(set(sizes)):
            raise ValueError("must strictly increase")
        return sizes

    @pydantic.model_validator(mode="after")
    def _check_both(self) -> "ServingConfig":
        if bool(self.batch_sizes) != bool(self.lengths):
            raise ValueError(
                "must have both `batch_sizes` and `lengths`, or none"
            )
        return self


class EvaluationConfig(Section):
    """The bounds within which a model is good enough to be pushed.

    Attributes:
        max_phoneme_error_rate: nothing above it is blessed.
        max_phoneme_error_rate_increase: nor what is worse by more than this
            than the last blessed model.
    """

    max_phoneme_error_rate: Annotated[float, Field(gt=0.0)] = 0.15
    max_phoneme_error_rate_increase: Annotated[float, Field(ge=0.0)] = 0.005


class PipelineConfig(orchestration.RunConfig):
    """The configuration of a run. `model_copy(update=...)` makes variations.

    Attributes:
        output: where all that is made goes: data, metadata, models.
        data: what is learned from.
        teacher: the sparse model.
        student: the dense model that is served.
        exits: how early tokens may leave.
        cascade: whether hard words go on to the teacher.
        serving: what is compiled before a client comes.
        evaluation: what is good enough to be pushed.
        warm_start: whether trainings on a new span of examples go on from the
            last model that was blessed before.
        warm_start_share: share of the steps and of the budget for those.
        infra_requests: how many requests the model must answer in a server.
        infra_image_tags: see `keras_moe.components.InfraValidator`.
        beam_pipeline_args, enable_cache, cluster: see
            `keras_moe.orchestration.RunConfig`.
    """

    pipeline_name: ClassVar[str] = PIPELINE_NAME
    model_name: ClassVar[str] = MODEL_NAME

    output: LocalPath = pathlib.Path("build/demo")
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    student: StudentConfig = StudentConfig()
    exits: ExitConfig = ExitConfig()
    cascade: CascadeConfig = CascadeConfig()
    serving: ServingConfig = ServingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    warm_start: bool = True
    warm_start_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    infra_requests: Positive = 5
    infra_image_tags: tuple[str, ...] = ()

    @property
    def loading_seconds(self) -> int:
        """How long a server may take to load what is served.

        XLA compiles each shape meanwhile; of a cascade the teacher, too.
        """
        return 900 if self.cascade.enabled else 120

    @pydantic.field_validator("infra_image_tags")
    @classmethod
    def _check_infra_image_tags(
        cls, tags: tuple[str, ...], info: pydantic.ValidationInfo
    ) -> tuple[str, ...]:
        serving = info.data.get("serving")
        if tags and serving is not None and serving.batch_sizes:
            raise ValueError(
                "must be empty, or `serving.batch_sizes` and `serving.lengths`:"
                " TFX starts the stock server in a way that compiles nothing"
            )
        return tags


# The flags of the commands. `--set` sets any field.
COMMAND_LINE = orchestration.CommandLine(
    PipelineConfig,
    [
        Flag(
            "dictionary",
            "data.dictionary",
            help="a CSV with the columns word and pronunciation (default: the "
            "installed CMU dictionary)",
        ),
        Flag(
            "keep_stress",
            "data.keep_stress",
            bool,
            "keep the stress digits of vowels",
        ),
        Flag(
            "max_words",
            "data.max_words",
            int,
            "use a fixed sample of so many words",
        ),
        Flag("preset", "teacher.preset", help="the teacher to train"),
        Flag(
            "cascade",
            "cascade.enabled",
            bool,
            "serve student and teacher: hard words go on to the teacher",
        ),
        Flag(
            "max_phoneme_error_rate",
            "evaluation.max_phoneme_error_rate",
            float,
            "push no model above this rate",
        ),
        *(
            Flag(
                name,
                f"teacher.training.{name}",
                kind,
                f"the teacher's training: {name.replace('_', ' ')}",
            )
            for name, kind in (
                ("steps", int),
                ("batch_size", int),
                ("peak_learning_rate", float),
                ("max_minutes", float),
                ("seed", int),
            )
        ),
    ],
)


def load_config(
    path: pathlib.Path | None = None,
    overrides: dict[str, Any] | None = None,
) -> PipelineConfig:
    """Reads a configuration, see `keras_moe.orchestration.load_config`.

    Args:
        path: the YAML file; `None` for the defaults.
        overrides: field, such as `"teacher.training.steps"`, to value.
    """
    return orchestration.load_config(PipelineConfig, path, overrides)
