"""Decoding loops over a model's step function."""

from keras_moe.generation.greedy import compile_decoder as compile_decoder
from keras_moe.generation.greedy import greedy_decode as greedy_decode
