"""Where tensors lie: meshes, engines, strategies, layouts."""

import keras

from keras_moe.distribution._device_mesh import device_mesh as device_mesh
from keras_moe.distribution._engine import engine as engine
from keras_moe.distribution._layout_map import layout_map as layout_map
from keras_moe.distribution._processes import initialize as initialize
from keras_moe.distribution._strategy import strategy as strategy
from keras_moe.moved_names import find_moved

if keras.backend.backend() == "tensorflow":
    from keras_moe.distribution._dtensor_engine import (
        DTensorEngine as DTensorEngine,
    )

__getattr__ = find_moved(__name__)
