"""TFX and TFMA parts: thin wrappers over the rooms above (extra `[tfx]`)."""

from keras_moe.components.anomaly_gate import AnomalyGate as AnomalyGate
from keras_moe.components.artifacts import Certificate as Certificate
from keras_moe.components.artifacts import DataBlessing as DataBlessing
from keras_moe.components.artifacts import ExpertLoad as ExpertLoad
from keras_moe.components.artifacts import ModelCard as ModelCard
from keras_moe.components.blessed_before import BlessedBefore as BlessedBefore
from keras_moe.components.distiller import Distiller as Distiller
from keras_moe.components.exit_calibrator import (
    ExitCalibrator as ExitCalibrator,
)
from keras_moe.components.exit_depth import LayersPerAnswer as LayersPerAnswer
from keras_moe.components.exit_depth import MeanExitLayer as MeanExitLayer
from keras_moe.components.exit_task import ExitTask as ExitTask
from keras_moe.components.exit_task import ExitTaskArgs as ExitTaskArgs
from keras_moe.components.gate_closed_error import (
    GateClosedError as GateClosedError,
)
from keras_moe.components.infra_validator import (
    InfraValidator as InfraValidator,
)
from keras_moe.components.phoneme_error_rate import (
    PhonemeErrorRate as PhonemeErrorRate,
)
from keras_moe.components.push_version import newest_version as newest_version
from keras_moe.components.push_version import push_version as push_version
from keras_moe.components.pusher import Pusher as Pusher
from keras_moe.components.read_evaluation import (
    read_evaluation as read_evaluation,
)
from keras_moe.components.read_evaluation import read_failures as read_failures
from keras_moe.components.router_report import ReportArgs as ReportArgs
from keras_moe.components.router_report import RouterReport as RouterReport
from keras_moe.components.word_error_rate import WordErrorRate as WordErrorRate
