"""Many devices, and trainings that survive what happens to them."""

import keras

from keras_moe.distribution.checkpoint_file import load_into as load_into
from keras_moe.distribution.checkpoints import Checkpoints as Checkpoints
from keras_moe.distribution.damaged_file_error import (
    DamagedFileError as DamagedFileError,
)
from keras_moe.distribution.device_mesh import device_mesh as device_mesh
from keras_moe.distribution.engine import engine as engine
from keras_moe.distribution.layout_map import layout_map as layout_map
from keras_moe.distribution.name_nonfinite import (
    name_nonfinite as name_nonfinite,
)
from keras_moe.distribution.position import Position as Position
from keras_moe.distribution.processes import initialize as initialize
from keras_moe.distribution.strategy import strategy as strategy
from keras_moe.distribution.variables import build_state as build_state
from keras_moe.distribution.variables import named_variables as named_variables
from keras_moe.distribution.worker_lost_error import (
    WorkerLostError as WorkerLostError,
)

if keras.backend.backend() == "tensorflow":
    from keras_moe.distribution.dtensor_engine import (
        DTensorEngine as DTensorEngine,
    )
    from keras_moe.distribution.trainer import Trainer as Trainer
