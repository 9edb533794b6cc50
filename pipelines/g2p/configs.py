"""Everything that can be chosen about a pipeline run, in one object."""

import math
import pathlib
from typing import Annotated
from typing import Any
from typing import Literal

import pydantic
import yaml
from pydantic import Field

from pipelines.g2p.data.splits import DEFAULT_FRACTIONS
from pipelines.g2p.data.splits import SPLITS
from pipelines.g2p.modules.training_config import TrainingConfig

PIPELINE_NAME = "g2p"
MODEL_NAME = "g2p"

_SCHEMA = pathlib.Path(__file__).parent / "data" / "schema.pbtxt"
Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


def _of_this_machine(path: Any) -> Any:
    if "://" in str(path):
        raise ValueError(
            "must be a path of this machine; `cluster.output` may be a URL"
        )
    return path


def _absolute(path: pathlib.Path) -> pathlib.Path:
    # It goes into the metadata, which outlives this run.
    return path.resolve()


Path = Annotated[
    pathlib.Path,
    pydantic.BeforeValidator(_of_this_machine),
    pydantic.AfterValidator(_absolute),
]


class _Section(pydantic.BaseModel):
    """Unknown names are errors; nothing changes once it is checked."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, validate_default=True
    )


class DataConfig(_Section):
    """What is learned from.

    Attributes:
        dictionary: a CSV file with the columns `word` and `pronunciation`, or
            `None` for the installed CMU dictionary.
        keep_stress: whether vowels keep their stress digit.
        max_words: use only a fixed sample of so many words; `None` for all.
        fractions: the shares of train, validation, calibration and test.
        schema_file: what the examples must look like; `None` to infer it from
            those of train (the first time, to have a file to start from).
    """

    dictionary: Path | None = None
    keep_stress: bool = False
    max_words: Positive | None = None
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS
    schema_file: Path | None = _SCHEMA

    @pydantic.field_validator("fractions")
    @classmethod
    def _check_fractions(
        cls, fractions: tuple[float, ...]
    ) -> tuple[float, ...]:
        if (
            len(fractions) != len(SPLITS)
            or not all(fraction > 0 for fraction in fractions)
            or not math.isclose(sum(fractions), 1.0)
        ):
            raise ValueError(
                f"must be {len(SPLITS)} positive numbers that sum to 1, for "
                f"{', '.join(SPLITS)}"
            )
        return fractions

    @pydantic.field_validator("schema_file")
    @classmethod
    def _check_schema(cls, path: pathlib.Path | None) -> pathlib.Path | None:
        if path is not None and not path.is_file():
            raise ValueError("must be a file that exists")
        return path


class TeacherConfig(_Section):
    """The sparse model.

    Attributes:
        preset: the `SwitchTransformer` preset to train.
        training: how long and how; `max_minutes` is the budget of the stage.
        strategy: which devices train in step, see
            `keras_moe.distribution.strategy`.
        tuner_trials: so many short trainings choose learning rate and label
            smoothing first; 0 for none.
    """

    preset: str = "switch_g2p_demo"
    training: TrainingConfig = TrainingConfig(max_minutes=7.0)
    strategy: Literal["default", "mirrored", "multi_worker", "tpu"] = "default"
    tuner_trials: Annotated[int, Field(ge=0)] = 0

    @pydantic.field_validator("preset")
    @classmethod
    def _check_preset(cls, preset: str) -> str:
        # Imported late: it brings TensorFlow, which a command line need not
        # wait for to print its help.
        from keras_moe.models import SwitchTransformer

        if preset not in SwitchTransformer.presets:
            known = ", ".join(sorted(SwitchTransformer.presets))
            raise ValueError(f"must be one of {known}")
        return preset


class StudentConfig(_Section):
    """The dense model that is served: as wide as the teacher, less deep.

    Attributes:
        num_encoder_layers: of the student.
        num_decoder_layers: of the student; each is an exit.
        training: how long and how; `max_minutes` is the budget of the stage.
        student_loss_weight: what labels count; the teacher has the rest.
    """

    num_encoder_layers: Positive = 2
    num_decoder_layers: Positive = 2
    training: TrainingConfig = TrainingConfig(
        steps=1500, max_minutes=4.0, label_smoothing=0.0
    )
    student_loss_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.75


class ExitConfig(_Section):
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
        return thresholds


class EvaluationConfig(_Section):
    """What is good enough to be pushed.

    Attributes:
        max_phoneme_error_rate: nothing above it is blessed.
        max_phoneme_error_rate_increase: nor what is worse by more than this
            than the last blessed model.
    """

    max_phoneme_error_rate: Annotated[float, Field(gt=0.0)] = 0.15
    max_phoneme_error_rate_increase: Annotated[float, Field(ge=0.0)] = 0.005


class Resources(_Section):
    """What a container of a component gets.

    Attributes:
        cpu: cores.
        memory_gib: memory in GiB.
        accelerator: kind, such as `"NVIDIA_TESLA_T4"`; `None` for none.
        accelerator_count: how many of them.
    """

    cpu: Annotated[float, Field(gt=0.0)] = 4.0
    memory_gib: Annotated[float, Field(gt=0.0)] = 16.0
    accelerator: str | None = None
    accelerator_count: Positive = 1


class ClusterConfig(_Section):
    """Where the pipeline lies, and on what it runs, in Kubeflow or Vertex.

    Attributes:
        output: what all containers reach, such as `gs://bucket/g2p`, or a path
            of a volume that they share. Prepared spans are in `data` of it.
        image: of the components, made by `deploy/components.Dockerfile`.
        images: other images, such as one with drivers, by component.
        resources: by component; what is not named gets the cluster's default.
        source_dir: where the repository lies in the image.
    """

    output: Annotated[str, Field(pattern=r"^([a-z0-9]+://[^/]|/)")]
    image: Annotated[str, Field(min_length=1)]
    images: dict[str, str] = Field(default_factory=dict)
    resources: dict[str, Resources] = Field(default_factory=dict)
    source_dir: Annotated[str, Field(pattern="^/")] = "/keras_moe"


class PipelineConfig(_Section):
    """The configuration of a run. `model_copy(update=...)` makes variations.

    Attributes:
        output: where all that is made goes: data, metadata, models.
        data: what is learned from.
        teacher: the sparse model.
        student: the dense model that is served.
        exits: how early tokens may leave.
        evaluation: what is good enough to be pushed.
        warm_start: whether trainings on a new span of examples go on from the
            last model that was blessed before.
        warm_start_share: share of the steps and of the budget for those.
        infra_requests: how many requests the model must answer in a server.
        infra_image_tags: see `keras_moe.components.InfraValidator`.
        beam_pipeline_args: flags for Beam, such as `--runner=FlinkRunner`.
        enable_cache: whether components whose inputs did not change are
            skipped.
        cluster: what `pipelines.g2p.kubeflow_v2_runner` needs; `None` on one
            machine.
    """

    output: Path = pathlib.Path("build/demo")
    data: DataConfig = DataConfig()
    teacher: TeacherConfig = Field(default_factory=TeacherConfig)
    student: StudentConfig = StudentConfig()
    exits: ExitConfig = ExitConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    warm_start: bool = True
    warm_start_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    infra_requests: Positive = 5
    infra_image_tags: tuple[str, ...] = ()
    # One thread: the work is small, and a second one only contends for it.
    beam_pipeline_args: tuple[str, ...] = ("--direct_num_workers=1",)
    enable_cache: bool = True
    cluster: ClusterConfig | None = None

    @property
    def data_dir(self) -> pathlib.Path:
        """Where the spans of split TFRecord files are."""
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


def load_config(
    path: pathlib.Path | None = None,
    overrides: dict[str, Any] | None = None,
) -> PipelineConfig:
    """Reads a configuration from a YAML file.

    Args:
        path: the file; `None` for the defaults.
        overrides: field, such as `"teacher.training.steps"`, to value. They
            count more than the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a valid configuration; the message names file,
            field and rule.
    """
    source = "the command line" if path is None else str(path)
    document: Any = {}
    if path is not None:
        if not path.is_file():
            raise FileNotFoundError(f"The configuration {path} does not exist.")
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is not YAML: {reason}.") from error
        if not isinstance(document, dict):
            raise ValueError(
                f"{path} must hold names and values. Received: "
                f"{type(document).__name__}."
            )
    for field, value in (overrides or {}).items():
        _set(document, field, value)
    _complete_trainings(document)
    try:
        return PipelineConfig(**document)
    except pydantic.ValidationError as error:
        raise ValueError(_explain(error, source)) from error


def _set(document: dict[str, Any], field: str, value: Any) -> None:
    *sections, name = field.split(".")
    for section in sections:
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # which the checks will say
        document = inner
    document[name] = value


def _complete_trainings(document: dict[str, Any]) -> None:
    """Fills partial trainings with the defaults of their stage."""
    for section, defaults in (
        ("teacher", TeacherConfig.model_fields["training"].default),
        ("student", StudentConfig.model_fields["training"].default),
    ):
        stage = document.get(section)
        if isinstance(stage, dict) and isinstance(stage.get("training"), dict):
            stage["training"] = vars(defaults) | stage["training"]


def _explain(error: pydantic.ValidationError, source: str) -> str:
    """Returns a sentence for each field that is wrong."""
    sentences = []
    for found in error.errors(include_url=False):
        field = ".".join(str(part) for part in found["loc"]) or "all of it"
        rule = found["msg"].removeprefix("Value error, ").rstrip(".")
        text = f"{source}: `{field}`: {rule}"
        if "Received" not in rule:
            text += f". Received: {found['input']!r}"
        sentences.append(text + ".")
    return " ".join(sentences)
