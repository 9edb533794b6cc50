"""The type of what runs a signature: made by a session, called by servers."""

from typing import Protocol

import numpy as np


class Runner(Protocol):
    """One signature of a loaded version, as a callable of its session.

    A servable makes runners and a batcher calls them. Neither imports the
    other for this type. A runner is hashable, so that requests for the same
    one can be found.
    """

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Runs the signature.

        Args:
            *inputs: the arrays, in the order of `Signature.inputs`.

        Returns:
            The arrays of all outputs, in the order of `Signature.outputs`.

        Raises:
            tf.errors.OpError: the model refuses the inputs.
        """
