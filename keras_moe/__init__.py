"""Mixture-of-experts parts for Keras 3 and TFX."""

from keras_moe.version import __version__ as __version__
