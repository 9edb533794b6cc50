"""The learning curve, kept where TFX keeps the files of a run."""

import json
from typing import Any

from keras_moe.components._artifact_files import written_locally


def keep_history(history: Any, directory: str) -> None:
    """Writes the learning curve of a `run_fn`: `history.json`.

    Example:
    ```python
    def run_fn(fn_args):
        history = model.fit(batches)
        keras_moe.components.keep_history(history, fn_args.model_run_dir)
    ```

    Args:
        history: what `fit` returned.
        directory: where to write, here or in a remote store.
    """
    curve = {
        name: [float(value) for value in values]
        for name, values in history.history.items()
    }
    with written_locally(directory) as local:
        path = local / "history.json"
        path.write_text(json.dumps(curve, indent=2) + "\n")
