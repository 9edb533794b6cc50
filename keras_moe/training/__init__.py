"""Training: a loop that resumes, checkpoints, and trainers of exits."""

import keras

from keras_moe.training._adversarial_trainer import (
    AdversarialTrainer as AdversarialTrainer,
)
from keras_moe.training._build_state import build_state as build_state
from keras_moe.training._feature_reconstruction import (
    FeatureReconstruction as FeatureReconstruction,
)
from keras_moe.training._loco_prop import LocoProp as LocoProp
from keras_moe.training._worker_lost_error import (
    WorkerLostError as WorkerLostError,
)
from keras_moe.training.budget._budgeted_schedule import (
    BudgetedSchedule as BudgetedSchedule,
)
from keras_moe.training.budget._training_budget import (
    TrainingBudget as TrainingBudget,
)
from keras_moe.training.budget._training_progress import (
    TrainingProgress as TrainingProgress,
)
from keras_moe.training.checkpoints._checkpoint_file import (
    load_into as load_into,
)
from keras_moe.training.checkpoints._checkpoints import (
    Checkpoints as Checkpoints,
)
from keras_moe.training.checkpoints._damaged_file_error import (
    DamagedFileError as DamagedFileError,
)
from keras_moe.training.checkpoints._position import Position as Position
from keras_moe.training.exits._early_exit_trainer import (
    EarlyExitTrainer as EarlyExitTrainer,
)
from keras_moe.training.exits._exit_classifier_trainer import (
    ExitClassifierTrainer as ExitClassifierTrainer,
)
from keras_moe.training.nonfinite._all_finite import all_finite as all_finite
from keras_moe.training.nonfinite._name_nonfinite import (
    name_nonfinite as name_nonfinite,
)

if keras.backend.backend() == "tensorflow":
    from keras_moe.training._trainer import Trainer as Trainer
