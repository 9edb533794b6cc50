"""TFX and TFMA parts: thin wrappers over the rooms above (extra `[tfx]`)."""

from keras_moe.components.phoneme_error_rate import (
    PhonemeErrorRate as PhonemeErrorRate,
)
from keras_moe.components.word_error_rate import WordErrorRate as WordErrorRate
