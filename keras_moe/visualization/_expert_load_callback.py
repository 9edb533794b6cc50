"""Expert loads in the training history and in TensorBoard."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_moe.validation import check_size
from keras_moe.visualization._layer_loads import DROPPED_KEY
from keras_moe.visualization._layer_loads import LOAD_KEY
from keras_moe.visualization._layer_loads import LayerLoads
from keras_moe.visualization._layer_loads import built_routers
from keras_moe.visualization._plot_expert_load import plot_expert_load


class ExpertLoadCallback(keras.callbacks.Callback):
    """Records how every layer's tokens spread over its experts.

    At the end of each epoch the loads of its training steps (not of its
    validation) are appended to the history, under `<layer>/expert_load`, as
    lists of shares that sum to 1; `plot_expert_load(history)` draws them.
    They are kept out of `logs`, where other callbacks expect scalars. The
    share of dropped tokens is there already, as one of the layer's metrics; of
    routers with `report_metrics=False` it is added to the history.

    Args:
        log_dir: where to write a picture for TensorBoard (under "Images");
            `None` for no picture. Needs the `[viz]` extra.
        every: epochs from one picture to the next. The history has all.

    Raises:
        ValueError: if `every` is not a positive integer, or if the model, when
            training starts, has no `layers.SparseMoE`.

    Example:

    >>> inputs = keras.Input((None, 8))
    >>> layer = keras_moe.layers.SparseMoE(4, hidden_dim=16, name="moe")
    >>> model = keras.Model(inputs, layer(inputs))
    >>> model.compile("adam", "mse")
    >>> x = np.random.rand(64, 10, 8)
    >>> history = model.fit(
    ...     x, x, epochs=2, verbose=0,
    ...     callbacks=[keras_moe.visualization.ExpertLoadCallback()],
    ... )
    >>> len(history.history["moe/expert_load"])
    2
    >>> figure = keras_moe.visualization.plot_expert_load(history)
    """

    def __init__(self, log_dir: str | None = None, every: int = 1):
        super().__init__()
        check_size(every=every)
        self.log_dir = log_dir
        self.every = every
        self._writer: Any = None
        self._loads: LayerLoads | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the event file."""
        if self.log_dir is not None:
            self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Forgets the last epoch."""
        self._loads = None
        for router in built_routers(self.model).values():
            # Keras resets what is reported.
            if not router.report_metrics:
                router.reset_metrics()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Reads the metrics of training before validation resets them."""
        self._loads = LayerLoads.from_metrics(self.model)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Records the loads; draws them."""
        loads = self._loads or LayerLoads.from_metrics(self.model)
        history = self.model.history.history
        for name, load, dropped in zip(
            loads.names, loads.loads, loads.dropped, strict=True
        ):
            key = f"{name}/{LOAD_KEY}"
            history.setdefault(key, []).append([float(x) for x in load])
            key = f"{name}/{DROPPED_KEY}"
            if key not in (logs or {}):
                history.setdefault(key, []).append(dropped)
        if self._writer is not None and epoch % self.every == 0:
            picture = _pixels(plot_expert_load(loads, title=f"Epoch {epoch}"))
            with self._writer.as_default():
                tf.summary.image(LOAD_KEY, picture[None], step=epoch)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _pixels(figure: Any) -> np.ndarray:
    """Draws a Matplotlib figure into uint8 `[height, width, 4]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())
