"""A hand-made SavedModel in the shape of the served one."""

import base64
import pathlib
import shutil

import tensorflow as tf

from keras_moe import serving

WORDS = tf.TensorSpec([None], tf.string, name="word")


class ToyModel(tf.Module):
    """Upper-cases words and scales their lengths by a variable."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = tf.Variable(scale)

    @tf.function(input_signature=[WORDS])
    def serving_default(self, word):
        length = tf.cast(tf.strings.length(word), tf.float32)
        return {
            "phonemes": tf.strings.upper(word),
            "score": length * self.scale,
        }

    @tf.function(
        input_signature=[
            WORDS,
            tf.TensorSpec([None], tf.float32, name="threshold"),
        ]
    )
    def with_threshold(self, word, threshold):
        score = self.serving_default(word)["score"]
        return {"accepted": tf.cast(score >= threshold, tf.int32)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], name="pair")])
    def ratio(self, pair):
        return {"ratio": pair[:, 0] / pair[:, 1] * self.scale}

    @tf.function(input_signature=[WORDS])
    def number(self, word):
        return {
            "raw_bytes": tf.strings.join([word, tf.constant(b"\xff")]),
            "value": tf.strings.to_number(word),
        }

    @tf.function(input_signature=[WORDS])
    def count(self, word):
        return {"count": tf.size(word), "first": word[0]}


# A grey pixel.
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytg"
    "AAAABJRU5ErkJggg=="
)
# None of its texts is markup.
PAGE = {
    "title": "Loud <b>words</b>",
    "signatures": ["serving_default", "with_threshold"],
    "inputs": {"word": {"label": "Word", "example": "ab"}},
    "outputs": {
        "phonemes": {"label": "Loud"},
        "score": {"label": "Length", "hidden_when": 0},
    },
    "pictures": [{"file": "load.png", "title": "Load", "alt": "A pixel"}],
}

SIGNATURES = ("serving_default", "with_threshold", "ratio", "number", "count")


def save(directory: pathlib.Path, scale: float) -> pathlib.Path:
    model = ToyModel(scale)
    tf.saved_model.save(
        model,
        str(directory),
        signatures={name: getattr(model, name) for name in SIGNATURES},
    )
    return directory


def write_page(saved: pathlib.Path) -> None:
    picture = saved / "assets.extra" / "load.png"
    picture.parent.mkdir(exist_ok=True)
    picture.write_bytes(PICTURE)
    serving.write_page(saved, PAGE)


def push(saved: pathlib.Path, base: pathlib.Path, version: int) -> pathlib.Path:
    """Copies a model into a folder of versions in one move, as Pusher does."""
    base.mkdir(parents=True, exist_ok=True)
    staging = base / f"staging-{version}"
    shutil.copytree(saved, staging)
    return staging.rename(base / str(version))
