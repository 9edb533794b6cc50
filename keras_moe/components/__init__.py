"""TFX components and TFMA metrics made of the other rooms (extra `[tfx]`)."""

from importlib.util import find_spec

from keras_moe.tfx_needed import tfx_needed

if find_spec("tfx") is None:
    raise tfx_needed(__name__)

from keras_moe.components._artifact_files import read_locally as read_locally
from keras_moe.components._artifact_files import (
    written_locally as written_locally,
)
from keras_moe.components._artifacts import (
    CandidateEmbeddings as CandidateEmbeddings,
)
from keras_moe.components._artifacts import Certificate as Certificate
from keras_moe.components._artifacts import DataBlessing as DataBlessing
from keras_moe.components._artifacts import ExpertLoad as ExpertLoad
from keras_moe.components._artifacts import FeatureSelection as FeatureSelection
from keras_moe.components._artifacts import IndexReport as IndexReport
from keras_moe.components._artifacts import ModelCard as ModelCard
from keras_moe.components.data._pseudo_labeler import (
    PseudoLabeler as PseudoLabeler,
)
from keras_moe.components.data._subset_selector import (
    SubsetSelector as SubsetSelector,
)
from keras_moe.components.evaluation._deferral_share import (
    DeferralShare as DeferralShare,
)
from keras_moe.components.evaluation._exit_depth import (
    LayersPerAnswer as LayersPerAnswer,
)
from keras_moe.components.evaluation._exit_depth import (
    MeanExitLayer as MeanExitLayer,
)
from keras_moe.components.evaluation._metric_config import (
    metric_config as metric_config,
)
from keras_moe.components.evaluation._metric_config import (
    overall_bound as overall_bound,
)
from keras_moe.components.evaluation._ranking import (
    MeanReciprocalRank as MeanReciprocalRank,
)
from keras_moe.components.evaluation._ranking import RecallAtK as RecallAtK
from keras_moe.components.evaluation._read_evaluation import (
    read_evaluation as read_evaluation,
)
from keras_moe.components.evaluation._read_evaluation import (
    read_failures as read_failures,
)
from keras_moe.components.evaluation._sequence_error_rate import (
    SequenceErrorRate as SequenceErrorRate,
)
from keras_moe.components.evaluation._symbol_error_rate import (
    SymbolErrorRate as SymbolErrorRate,
)
from keras_moe.components.gates._anomaly_gate import AnomalyGate as AnomalyGate
from keras_moe.components.gates._gate_closed_error import (
    GateClosedError as GateClosedError,
)
from keras_moe.components.gates._infra_validator import (
    InfraValidator as InfraValidator,
)
from keras_moe.components.pushing._blessed_before import (
    BlessedBefore as BlessedBefore,
)
from keras_moe.components.pushing._pusher import Pusher as Pusher
from keras_moe.components.report._router_report import ReportArgs as ReportArgs
from keras_moe.components.report._router_report import (
    RouterReport as RouterReport,
)
from keras_moe.components.retrieval._candidate_embedder import (
    CandidateEmbedder as CandidateEmbedder,
)
from keras_moe.components.retrieval._embedding_rows import (
    CandidateRows as CandidateRows,
)
from keras_moe.components.retrieval._embedding_rows import (
    read_embeddings as read_embeddings,
)
from keras_moe.components.retrieval._index_builder import (
    IndexBuilder as IndexBuilder,
)
from keras_moe.components.retrieval._search_task import SearchTask as SearchTask
from keras_moe.components.retrieval._search_task import (
    SearchTaskArgs as SearchTaskArgs,
)
from keras_moe.components.selection._feature_selector import (
    FeatureSelector as FeatureSelector,
)
from keras_moe.components.selection._feature_selector import (
    read_selected_features as read_selected_features,
)
from keras_moe.components.texts._text_column import TextColumn as TextColumn
from keras_moe.components.texts._text_search import TextSearch as TextSearch
from keras_moe.components.texts._text_to_text import TextToText as TextToText
from keras_moe.components.training._calibration_task import (
    CalibrationTask as CalibrationTask,
)
from keras_moe.components.training._calibration_task import (
    CalibrationTaskArgs as CalibrationTaskArgs,
)
from keras_moe.components.training._cascade_calibrator import (
    CascadeCalibrator as CascadeCalibrator,
)
from keras_moe.components.training._distiller import (
    BASE_STUDENT as BASE_STUDENT,
)
from keras_moe.components.training._distiller import Distiller as Distiller
from keras_moe.components.training._exit_calibrator import (
    ExitCalibrator as ExitCalibrator,
)
from keras_moe.components.training._keep_history import (
    keep_history as keep_history,
)
from keras_moe.components.training._training_checkpoints import (
    training_checkpoints as training_checkpoints,
)
from keras_moe.moved_names import find_moved

__getattr__ = find_moved(__name__)
