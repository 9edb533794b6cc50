"""Decoding loops over a model's step function."""

from keras_moe.generation._beam_search import BeamSearch as BeamSearch
from keras_moe.generation._decode import compile_decoder as compile_decoder
from keras_moe.generation._decode import decode as decode
from keras_moe.generation._early_exit_policy import (
    EarlyExitPolicy as EarlyExitPolicy,
)
from keras_moe.generation._exit_confidence import (
    ExitConfidence as ExitConfidence,
)
from keras_moe.generation._greedy_choice import Greedy as Greedy
from keras_moe.generation._sampling import Sampling as Sampling
from keras_moe.generation._self_speculative import (
    SelfSpeculative as SelfSpeculative,
)
