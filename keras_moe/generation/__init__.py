"""Decoding loops over a model's step function."""

from keras_moe.generation.beam_search import BeamSearch as BeamSearch
from keras_moe.generation.decode import compile_decoder as compile_decoder
from keras_moe.generation.decode import decode as decode
from keras_moe.generation.early_exit_policy import (
    EarlyExitPolicy as EarlyExitPolicy,
)
from keras_moe.generation.exit_confidence import (
    ExitConfidence as ExitConfidence,
)
from keras_moe.generation.greedy_choice import Greedy as Greedy
from keras_moe.generation.sampling import Sampling as Sampling
from keras_moe.generation.self_speculative import (
    SelfSpeculative as SelfSpeculative,
)
