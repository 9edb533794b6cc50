"""The demo's student, untrained, and how it is exported."""

import pathlib

import keras

from benchmarks.shared.dictionary import load_splits
from keras_moe import serving
from keras_moe.models import SwitchTransformer
from pipelines.g2p.configs import StudentConfig
from pipelines.g2p.modules import presets
from pipelines.g2p.modules import text

TOKENS = 10
BATCH_SIZES = (1, 8, 32)
LENGTHS = (8, 16, 32)


def make_student() -> SwitchTransformer:
    """Returns the model with random weights."""
    keras.utils.set_random_seed(0)
    config = StudentConfig()
    return presets.from_preset(
        "switch_g2p_demo",
        num_experts=0,
        num_encoder_layers=config.num_encoder_layers,
        num_decoder_layers=config.num_decoder_layers,
        vocabulary_size=text.SOURCE_VOCABULARY_SIZE,
        target_vocabulary_size=text.target_vocabulary_size(),
    )


def export(model: SwitchTransformer, directory: pathlib.Path) -> pathlib.Path:
    """Writes the model as it would be served, with compiled shapes."""
    serving.export(
        model,
        directory,
        tokenize=text.encode_words,
        detokenize=text.decode_phonemes,
        max_length=TOKENS,
        input_name="word",
        output_name="phonemes",
        batch_sizes=BATCH_SIZES,
        lengths=LENGTHS,
    )
    return directory


def some_words(count: int) -> list[str]:
    """Returns words of the test split, from all of the alphabet."""
    words = [word for word, _ in load_splits()["test"]]
    return words[:: len(words) // count][:count]
