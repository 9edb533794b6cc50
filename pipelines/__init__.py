"""Pipelines built of keras_moe, each in a folder of its own."""

import os

# keras_moe imports TensorFlow, which then says nothing about this machine.
os.environ.setdefault("KERAS_MOE_QUIET", "1")
