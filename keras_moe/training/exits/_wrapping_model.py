"""A model that is around another one while that is trained."""

from typing import Any

from keras_moe.training._traced_once import TracedOnce
from keras_moe.types import Config


class WrappingModel(TracedOnce):
    """Saves and exports the model that it wraps, as distillers do.

    Keras's `ModelCheckpoint` saves the model that `fit` belongs to. The wrapper
    has no config, and would end the training after its first epoch.

    Attributes:
        model: the model that is trained.
    """

    model: Any

    def save(self, filepath: Any, overwrite: bool = True, **kwargs) -> None:
        """Saves `model` alone, as `keras.Model.save`."""
        self.model.save(filepath, overwrite=overwrite, **kwargs)

    def export(self, filepath: Any, *args, **kwargs) -> None:
        """Exports `model` alone, as `keras.Model.export`."""
        self.model.export(filepath, *args, **kwargs)

    def get_config(self) -> Config:
        """Refuses: a wrapper is made anew around its model."""
        kind = type(self).__name__
        raise NotImplementedError(
            f"A `{kind}` has no config. Save the model by `save`, the state of "
            f"the training by `save_weights`, and make the `{kind}` anew "
            "around the model."
        )
