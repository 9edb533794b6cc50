"""Everything that can be chosen about a pipeline run, in one object."""

import pathlib
from typing import Annotated
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
from pipelines.search.modules.training_config import TrainingConfig

PIPELINE_NAME = "search"
MODEL_NAME = "search"

_SCHEMA = pathlib.Path(__file__).parent / "data" / "schema.pbtxt"


class DataConfig(Section):
    """The synsets that are searched, and learned from.

    Attributes:
        wordnet: the folder of WordNet's data files, or `None` for the one that
            `make wordnet` fetched or the system has.
        max_synsets: use only a fixed sample of so many; `None` for all.
        fractions: the shares of train, validation, calibration and test.
        schema_file: what the examples must look like.
    """

    wordnet: LocalPath | None = None
    max_synsets: Positive | None = None
    fractions: SplitShares = DEFAULT_FRACTIONS
    schema_file: LocalPath = _SCHEMA

    @pydantic.field_validator("wordnet")
    @classmethod
    def _check_wordnet(cls, path: pathlib.Path | None) -> pathlib.Path | None:
        if path is not None and not path.is_dir():
            raise ValueError("must be a folder that exists")
        return path

    @pydantic.field_validator("schema_file")
    @classmethod
    def _check_file(cls, path: pathlib.Path) -> pathlib.Path:
        if not path.is_file():
            raise ValueError("must be a file that exists")
        return path


class EncoderConfig(TrainingSection):
    """The model that embeds glosses and words.

    Attributes:
        training: how long and how; `max_minutes` is the budget of the stage.
    """

    training: TrainingConfig = TrainingConfig()


class IndexConfig(Section):
    """The index, and what it must find.

    Attributes:
        target_recall: share of the best `k` to be certified.
        k: of that recall, and of a request that names none.
        max_k: greatest number of answers that a request may ask for.
        confidence_level: with which probability the recall is to hold.
        storage: see `keras_moe.retrieval.BlockIndex`.
        max_queries: tune and certify on so many: the budget of the stage.
    """

    target_recall: Fraction = 0.95
    k: Positive = 10
    max_k: Positive = 100
    confidence_level: Fraction = 0.95
    storage: Literal["float32", "bfloat16", "int8"] = "float32"
    max_queries: Positive = 1200

    @pydantic.model_validator(mode="after")
    def _check_both(self) -> "IndexConfig":
        if self.k > self.max_k:
            raise ValueError("must have a `k` of at most `max_k`")
        return self


class EvaluationConfig(Section):
    """The bounds within which a model is good enough to be pushed.

    Attributes:
        min_mrr: nothing below this mean reciprocal rank is blessed.
        min_recall: nor below this share of words found among the best `k`.
        max_fall: nor what is worse by more than this, in either, than the last
            blessed model.
    """

    min_mrr: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    min_recall: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    max_fall: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01


class PipelineConfig(orchestration.RunConfig):
    """The configuration of a run. `model_copy(update=...)` makes variations.

    Attributes:
        output: where all that is made goes: data, metadata, models.
        data: what is searched, and learned from.
        encoder: the model that embeds.
        index: what it must find.
        evaluation: what is good enough to be pushed.
        infra_requests: how many requests the model must answer in a server.
        beam_pipeline_args, enable_cache, cluster: see
            `keras_moe.orchestration.RunConfig`.
    """

    pipeline_name: ClassVar[str] = PIPELINE_NAME
    model_name: ClassVar[str] = MODEL_NAME

    output: LocalPath = pathlib.Path("build/demo-search")
    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    index: IndexConfig = IndexConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    infra_requests: Positive = 5


# The flags of the commands. `--set` sets any field.
COMMAND_LINE = orchestration.CommandLine(
    PipelineConfig,
    [
        Flag(
            "wordnet",
            "data.wordnet",
            help="a folder with WordNet's data files (default: the one that "
            "`make wordnet` fetched)",
        ),
        Flag(
            "max_synsets",
            "data.max_synsets",
            int,
            "use a fixed sample of so many synsets",
        ),
        Flag(
            "target_recall",
            "index.target_recall",
            float,
            "the recall to tune the index to",
        ),
        *(
            Flag(
                name,
                f"encoder.training.{name}",
                kind,
                f"the training: {name.replace('_', ' ')}",
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
