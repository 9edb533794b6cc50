"""From a trained model to what is served, for teacher and student alike."""

import functools
import os
import pathlib
from collections.abc import Callable
from collections.abc import Sequence

import keras
import tensorflow as tf
import tensorflow_transform as tft

from keras_moe import serving
from keras_moe.calibration import Certificate
from keras_moe.components import written_locally
from keras_moe.generation import EarlyExitPolicy
from keras_moe.model_folder import KERAS_MODEL
from keras_moe.models import SwitchTransformer
from pipelines.g2p.modules import page
from pipelines.g2p.modules import text
from pipelines.g2p.modules.preprocessing import ENCODER_TOKEN_IDS
from pipelines.g2p.modules.preprocessing import PHONEMES
from pipelines.g2p.modules.preprocessing import WORD
from pipelines.g2p.modules.preprocessing import WORD_STATUS

# Warm-up requests, one word and a batch, short and long: without them, the
# first clients after a start would wait for the compilation.
_WARMUP_WORDS = ("a", "keras", "grapheme", "antidisestablishmentarianism")


def export_model(
    model: keras.Model,
    transform_graph_path: str,
    directory: str | os.PathLike,
    keep_stress: bool,
    early_exit: EarlyExitPolicy | None = None,
    certificate: Certificate | None = None,
    batch_sizes: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    draw_expert_load: Callable[[pathlib.Path], None] | None = None,
) -> None:
    """Writes the SavedModel, with what goes along with it.

    Args:
        model: A `SwitchTransformer`, or a `Cascade` of two.
        transform_graph_path: The output of Transform.
        directory: Where to write, here or in a remote store.
        keep_stress: Which inventory of phonemes the model has.
        early_exit: The policy of a certificate.
        certificate: Of the model's exits, or of the cascade.
        batch_sizes: Of what XLA compiles; `None` for nothing.
        lengths: Of what XLA compiles.
        draw_expert_load: Writes the picture of the teacher's experts to a
            path; `None` for none.
    """
    transform = tft.TFTransformOutput(
        transform_graph_path
    ).transform_features_layer()

    def tokenize(words: tf.Tensor) -> dict[str, tf.Tensor]:
        # The graph that made the training data also reads requests.
        features = transform({WORD: words[:, tf.newaxis]})
        return {
            ENCODER_TOKEN_IDS: features[ENCODER_TOKEN_IDS],
            "status": features[WORD_STATUS],
        }

    # Later components, and trainings on more examples, load the Keras model.
    assets = {KERAS_MODEL.name: model.save}
    if draw_expert_load is not None:
        assets[page.EXPERT_LOAD] = draw_expert_load
    with written_locally(directory) as local:
        serving.export(
            model,
            local,
            tokenize=tokenize,
            detokenize=functools.partial(
                text.decode_phonemes, keep_stress=keep_stress
            ),
            max_length=text.MAX_PHONEMES,
            example_spec={WORD: tf.io.FixedLenFeature([], tf.string)},
            tracked=(transform,),
            input_name=WORD,
            output_name=PHONEMES,
            early_exit=early_exit,
            certificate=certificate,
            batch_sizes=batch_sizes,
            lengths=lengths,
            assets=assets,
        )
        exit_layers = None
        if early_exit is not None and isinstance(model, SwitchTransformer):
            exit_layers = model.config.num_decoder_layers
        page.write_page(local, exit_layers)
        serving.write_warmup_requests(
            local,
            [
                ("serving_default", {WORD: [_WARMUP_WORDS[0]]}),
                ("serving_default", {WORD: list(_WARMUP_WORDS)}),
            ],
        )
