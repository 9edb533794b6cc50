"""The page of the served model: its words, and the picture of the experts."""

import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_moe import serving
from keras_moe.components import ReportArgs
from keras_moe.model_folder import EXTRA_ASSETS
from keras_moe.visualization import collect_expert_load
from keras_moe.visualization import plot_expert_load
from pipelines.g2p.modules.preprocessing import PHONEMES
from pipelines.g2p.modules.preprocessing import WORD
from pipelines.g2p.modules.routing import teacher_inputs

# In `assets.extra`, from the distilled student on to what is served.
EXPERT_LOAD = "expert_load.png"

_BATCH_SIZE = 256
_DPI = 100


def write_page(
    directory: str | os.PathLike, exit_layers: int | None = None
) -> None:
    """Writes the page of an exported model, whose pictures are there already.

    Args:
        directory: of the export, a local one.
        exit_layers: of how many decoder layers a phoneme may leave early;
            `None` where none does.
    """
    phonemes: dict[str, Any] = {"label": "Phonemes"}
    description = "How a word or a name is spoken in English."
    if exit_layers is not None:
        phonemes |= {"depth": "exit_layer", "layers": exit_layers}
        description += (
            " The colour of a phoneme, and its small number, tell after which "
            "layer of the decoder the model was sure of it."
        )
    page: dict[str, Any] = {
        "title": "Words to phonemes",
        "description": description,
        "signatures": ["serving_default"],
        "inputs": {
            WORD: {
                "label": "Word",
                "hint": "Letters and apostrophes, such as o'neill",
                "example": "abacus",
            }
        },
        "outputs": {
            PHONEMES: phonemes,
            "status": {"label": "Remark", "hidden_when": "ok"},
        },
    }
    if pathlib.Path(directory, EXTRA_ASSETS, EXPERT_LOAD).is_file():
        page["pictures"] = [
            {
                "file": EXPERT_LOAD,
                "title": "How the teacher spread its tokens over its experts",
                "alt": (
                    "A heat map with a row for each sparse layer of the "
                    "teacher and a column for each expert: white is an even "
                    "share of the tokens, orange more, purple less."
                ),
            }
        ]
    serving.write_page(directory, page)


def expert_load_of(
    teacher: keras.Model, file_patterns: list[str]
) -> Callable[[pathlib.Path], None]:
    """Returns what draws the load of a teacher's experts.

    Args:
        teacher: sparse.
        file_patterns: of transformed examples.
    """

    def draw(path: pathlib.Path) -> None:
        inputs = teacher_inputs(ReportArgs(file_patterns, custom_config={}))
        loads = collect_expert_load(teacher, inputs, batch_size=_BATCH_SIZE)
        plot_expert_load(loads).savefig(path, format="png", dpi=_DPI)

    return draw


def expert_load_in(folder: str) -> Callable[[pathlib.Path], None] | None:
    """Returns what copies the picture of another model, if that has one.

    Args:
        folder: of the other model, in whatever store.
    """
    picture = os.path.join(folder, EXTRA_ASSETS, EXPERT_LOAD)
    if not tf.io.gfile.exists(picture):
        return None
    return lambda path: tf.io.gfile.copy(picture, str(path))
